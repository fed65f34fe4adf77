// The results: their tiles, what is folded under what, marks, and the keyboard.
import { element, icon } from "./dom.js";
import { coming, tile } from "./tile.js";

const KEYS = { "+": "like", "=": "like", "-": "unlike", "−": "unlike", w: "why", W: "why" };

export class Grid {
	/** `on` has open(key), act(name, item), end(), and `keys`: what else a letter does. */
	constructor(root, on) {
		Object.assign(this, { root, on });
		this.clear();
		root.addEventListener("click", (event) => this.click(event));
		root.addEventListener("keydown", (event) => this.press(event));
		root.addEventListener("focusin", (event) => this.enter(event.target.closest(".tile")));
	}

	clear() {
		this.tiles = new Map();
		this.active = null;
		this.root.replaceChildren();
	}

	await(count) {
		this.clear();
		this.root.append(...Array.from({ length: count }, coming));
	}

	/** Add results; those that are near-duplicates of another go under it, if `fold`. */
	append(neighbours, { hrefOf, marks, canExplain, fold }) {
		this.root.querySelectorAll(".coming").forEach((one) => one.remove());
		const fresh = [];
		for (const neighbour of neighbours) {
			const node = tile(neighbour, hrefOf(neighbour.key), { canExplain });
			this.tiles.set(neighbour.key, node);
			setMark(node, marks);
			node.querySelector(".open").tabIndex = -1;
			const head = fold && this.tiles.get(neighbour.folded_under);
			if (head) this.fold(head, node);
			else fresh.push(node);
		}
		this.root.append(...fresh);
		if (!this.active && fresh.length) this.enter(fresh[0]);
	}

	fold(head, node) {
		node.classList.add("folded-in");
		head.folded ??= [];
		head.folded.push(node);
		if (!head.badge) {
			head.badge = element("button", { class: "fold", "aria-expanded": "false", "data-act": "unfold" });
			head.over.append(head.badge);
		}
		if (head.badge.getAttribute("aria-expanded") === "true") head.folded.at(-2).after(node);
		const words = `${head.folded.length} near-duplicate${head.folded.length === 1 ? "" : "s"}`;
		head.badge.setAttribute("aria-label", words);
		head.badge.title = words;
		head.badge.replaceChildren(icon("stack"), `+${head.folded.length}`);
	}

	unfold(head) {
		const open = head.badge.getAttribute("aria-expanded") !== "true";
		head.badge.setAttribute("aria-expanded", String(open));
		if (open) head.after(...head.folded);
		else head.folded.forEach((node) => node.remove());
	}

	showMarks(marks) {
		for (const node of this.tiles.values()) setMark(node, marks);
	}

	/** Move the keyboard's place to a tile: one of them can be reached by Tab, the others by arrows. */
	enter(node) {
		if (!node || node === this.active) return;
		if (this.active) this.active.querySelector(".open").tabIndex = -1;
		this.active = node;
		node.querySelector(".open").tabIndex = 0;
	}

	focus() {
		this.active?.querySelector(".open").focus({ preventScroll: true });
	}

	click(event) {
		const node = event.target.closest(".tile");
		const act = event.target.closest("[data-act]")?.dataset.act;
		if (act === "unfold") this.unfold(node);
		else if (act) this.on.act(act, node.item);
		else if (event.target.closest(".open") && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
			event.preventDefault();
			this.on.open(node.item.key);
		}
	}

	press(event) {
		const node = event.target.closest(".tile");
		if (!node?.item || event.ctrlKey || event.metaKey || event.altKey) return;
		const act = KEYS[event.key];
		const to = this.beside(node, event.key);
		if (to) {
			this.enter(to);
			to.querySelector(".open").focus();
		} else if (act) this.on.act(act, node.item);
		else if (this.on.keys[event.key.toLowerCase()]) this.on.keys[event.key.toLowerCase()]();
		else if (event.key !== "ArrowDown" || !this.on.end()) return;
		event.preventDefault();
	}

	/** Return the tile that a key leads to, if any. */
	beside(node, key) {
		const shown = [...this.root.children];
		const place = shown.indexOf(node);
		const across = shown.findIndex((one) => one.offsetTop > shown[0].offsetTop);
		const columns = across < 0 ? shown.length : across;
		const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
		if (key === "Home") return shown[0];
		if (key === "End") return shown.at(-1);
		return key in steps ? shown[place + steps[key]] : undefined;
	}
}

function setMark(node, marks) {
	for (const name of ["like", "unlike"]) {
		const on = marks[name].includes(node.item.key);
		node.classList.toggle(name, on);
		node.querySelector(`.is-${name}`).setAttribute("aria-pressed", String(on));
	}
}
