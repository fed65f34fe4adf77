// One result as the grid shows it.
import { bdi, element, icon, visible } from "./dom.js";

// Pictures of fewer pixels are shown with sharp edges: they are what the model sees, 28 × 28 px for instance.
const TINY_PX = 40;

/** Return the picture of an item, which may have none. */
export function picture(address) {
	const none = () => element("span", { class: "none", "data-src": address }, "no picture");
	if (!address) return none();
	const image = element("img", { src: address, alt: "", loading: "lazy", draggable: "false" });
	image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth <= TINY_PX));
	image.addEventListener("error", () => image.replaceWith(none()));
	return image;
}

export const figure = (similarity) => similarity.toFixed(3);

function words(item) {
	const similarity = item.similarity === undefined ? null
		: element("span", { class: "figure" }, figure(item.similarity));
	// Folders are labels mostly; once is enough.
	const rest = item.key.startsWith(`${item.label}/`) ? item.key.slice(item.label.length + 1) : item.key;
	const [first, second] = item.label === null ? [item.key, null] : [item.label, rest];
	return [
		element("span", { class: "first" }, bdi(first), similarity),
		element("span", { class: "second" }, second === null ? " " : bdi(second)),
	];
}

function act(name, words, sign) {
	const pressed = name === "why" ? {} : { "aria-pressed": "false" };
	return element("button", { class: `is-${name}`, "data-act": name, title: words, ...pressed }, icon(sign));
}

/** Return a result as a list item with a link that searches by it; `canExplain` adds the way to "why similar". */
export function tile(item, href, { canExplain = false, plain = false } = {}) {
	const link = element("a", { class: "open", href, draggable: "false" }, element("span", { class: "frame" }, picture(item.thumbnail)), ...words(item));
	const node = element("li", { class: "tile", title: visible(item.key.slice(0, 300)) }, link);
	node.item = item;
	if (plain) return node;
	if (item.verdict && item.verdict !== "not here") link.firstChild.append(element("span", { class: "judged", "data-verdict": item.verdict }, item.verdict));
	node.over = element("div", { class: "over" }, element("div", { class: "acts" },
		act("like", "More like this", "plus"),
		act("unlike", "Less like this", "minus"),
		canExplain ? act("why", "Why similar?", "why") : null));
	node.append(node.over);
	return node;
}

/** Return a place for a result that is on its way. */
export const coming = () => element("li", { class: "tile coming", "aria-hidden": "true" },
	element("span", { class: "frame" }), element("span", { class: "first" }, " "), element("span", { class: "second" }, " "));
