// Filters: labels with how many items have them, metadata fields, and what is in use as chips.
import { at, bdi, counted, element, icon, visible } from "./dom.js";
import { labelsAsked, withCondition, withLabels } from "./query.js";

const SHOWN = 12;
const SIGNS = { eq: "is", in: "is one of", lt: "<", lte: "≤", gt: ">", gte: "≥" };

export const textOf = (value) => (value === null ? "nothing" : typeof value === "string" ? value : JSON.stringify(value));
const nameOf = (label) => (label === null ? "without a label" : label);

export class Filters {
	/** `onChange` takes the new conditions. */
	constructor(onChange) {
		Object.assign(this, { onChange, conditions: [], labels: [], fields: [] });
		at("labels-find").addEventListener("input", () => this.findLabels());
		at("labels-list").addEventListener("change", (event) => this.choose(event.target));
		at("field").addEventListener("change", () => this.showField());
		at("fields").addEventListener("submit", (event) => {
			event.preventDefault();
			this.add();
		});
		at("chips").addEventListener("click", (event) => {
			const button = event.target.closest("button");
			if (button) this.onChange(this.conditions.filter((one) => one !== button.condition));
		});
	}

	/** `more` tells that there are labels beyond these; `find` asks for those with a text in their name. */
	offer(labels, fields, more, find) {
		Object.assign(this, { every: labels, find: more ? find : null });
		this.take(labels);
		this.fields = fields.filter(({ kinds }) => kinds.some((kind) => ["text", "number", "boolean"].includes(kind)));
		at("labels").hidden = !this.labels.length;
		at("labels-find").hidden = this.labels.length <= SHOWN;
		at("fields").hidden = !this.fields.length;
		at("field").replaceChildren(...this.fields.map(({ name }) => element("option", { value: name }, visible(name))));
		this.showLabels();
		if (this.fields.length) this.showField();
	}

	/** Choose from these labels; being without one is no choice where all items are. */
	take(labels) {
		this.labels = labels.filter(({ label }) => label !== null || this.every.length > 1);
	}

	/** Show the labels of what was typed; the service looks through those that the page does not have. */
	async findLabels() {
		const wanted = at("labels-find").value.trim();
		if (!this.find || !wanted) this.take(this.every);
		this.showLabels();
		if (!this.find || !wanted) return;
		// Until the service has answered, nobody knows how many there are.
		at("labels-more").hidden = true;
		const found = await this.find(wanted).catch(() => null);
		if (!found || at("labels-find").value.trim() !== wanted) return;
		this.take(found);
		this.showLabels();
	}

	show(conditions) {
		this.conditions = conditions;
		at("chips").hidden = !conditions.length;
		at("chips").replaceChildren(...conditions.map(chip));
		at("options-count").hidden = !conditions.length;
		at("options-count").textContent = conditions.length;
		this.showLabels();
	}

	showLabels() {
		const asked = labelsAsked(this.conditions) ?? new Set();
		const wanted = at("labels-find").value.trim().toLowerCase();
		const found = this.labels.filter(({ label }) => nameOf(label).toLowerCase().includes(wanted));
		const first = found.filter(({ label }) => asked.has(label));
		const shown = [...first, ...found.filter(({ label }) => !asked.has(label)).slice(0, Math.max(SHOWN - first.length, 0))];
		const left = found.length - shown.length;
		at("labels-more").hidden = !left && found.length > 0;
		at("labels-more").textContent = left ? `and ${counted(left)} more: find them by name` : "No label has this name.";
		at("labels-list").replaceChildren(...shown.map(({ label, count }) => {
			const box = element("input", { type: "checkbox", checked: asked.has(label) });
			box.label = label;
			const name = element("span", { title: nameOf(label).slice(0, 300) }, bdi(nameOf(label)));
			return element("li", {}, element("label", {}, box, name, element("small", {}, counted(count))));
		}));
	}

	choose(box) {
		const place = [...at("labels-list").querySelectorAll("input")].indexOf(box);
		const asked = labelsAsked(this.conditions) ?? new Set();
		if (box.checked) asked.add(box.label);
		else asked.delete(box.label);
		const focused = document.activeElement === box;
		this.onChange(withLabels(this.conditions, [...asked]));
		// The list was made anew.
		const boxes = [...at("labels-list").querySelectorAll("input")];
		if (focused) (boxes.find((one) => one.label === box.label) ?? boxes[place])?.focus();
	}

	field() {
		return this.fields.find(({ name }) => name === at("field").value) ?? this.fields[0];
	}

	showField() {
		const { values, min, max } = this.field();
		at("field-values").replaceChildren(...(values ?? []).filter(({ value }) => value !== null).map(({ value }) => element("option", { value: textOf(value) })));
		at("field-value").value = "";
		at("field-value").placeholder = min === undefined || min === null ? "Value" : `${min} to ${max}`;
	}

	add() {
		const test = at("field-test").value;
		const text = at("field-value").value.trim();
		if (!text) return at("field-value").focus();
		const { name, kinds } = this.field();
		const value = test === "in" ? text.split(",").map((one) => valueOf(one.trim(), kinds)) : valueOf(text, kinds);
		at("field-value").value = "";
		this.onChange(withCondition(this.conditions, { field: name, test, value }));
	}
}

/** Return what is meant by a text: a number or a truth value only where the field has such. */
function valueOf(text, kinds) {
	if (kinds.includes("number") && text && Number.isFinite(Number(text))) return Number(text);
	if (kinds.includes("boolean") && (text === "true" || text === "false")) return text === "true";
	return text;
}

function chip(condition) {
	const { field, test, value } = condition;
	const text = Array.isArray(value) ? value.map(textOf).join(", ") : textOf(value);
	const words = element("span", {}, bdi(field), ` ${SIGNS[test] ?? test} `, element("b", {}, bdi(text)));
	const button = element("button", { title: "Remove this filter" }, words, element("span", { class: "unseen" }, ", remove this filter"), icon("close"));
	button.condition = condition;
	return element("li", {}, button);
}
