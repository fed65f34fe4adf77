// Elements and texts. What comes from an index or a file is text here, never markup.

export const at = (id) => document.getElementById(id);

/** Return a new element: `on…` are listeners, the rest attributes; null, undefined and false leave one out. */
export function element(name, properties = {}, ...children) {
	const node = document.createElement(name);
	for (const [property, value] of Object.entries(properties)) {
		if (value === null || value === undefined || value === false) continue;
		if (property.startsWith("on")) node.addEventListener(property.slice(2), value);
		else node.setAttribute(property, value === true ? "" : value);
	}
	node.append(...children.filter((child) => child !== null && child !== undefined));
	return node;
}

/** Return one of the pictures that index.html defines as symbols. */
export function icon(name) {
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	svg.setAttribute("aria-hidden", "true");
	const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
	use.setAttribute("href", `#i-${name}`);
	svg.append(use);
	return svg;
}

/** Return a stranger's text so that its direction does not spill over into what surrounds it. */
export const bdi = (text, properties = {}) => element("bdi", properties, visible(text));

// Signs that nobody sees, and those that turn the reading direction of what follows, are shown as their code point.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

export function visible(text) {
	return String(text).replace(UNSEEN, (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);
}

export const counted = (number) => number.toLocaleString("en-GB");

export const plural = (number, one, many = `${one}s`) => `${counted(number)} ${number === 1 ? one : many}`;

/** Say something to screen readers, and to nobody else. */
export function announce(text) {
	at("spoken").textContent = text;
}
