// Why two images are alike, as the model sees them: reconstructions, where they agree, what carries it, and the way between.
import { post, thumbnailOf, uploadOf } from "./api.js";
import { at, bdi, element } from "./dom.js";
import { logIn } from "./login.js";
import { persist, sayOf } from "./notices.js";
import { figure, picture } from "./tile.js";

const STEPS = 17;
const PARTS = 6;

/** Show why an item is similar to the query. */
export async function explain(query, item) {
	const [dialog, body] = [at("why"), at("why-body")];
	const leaving = new AbortController();
	dialog.addEventListener("close", () => leaving.abort(), { once: true });
	body.replaceChildren(element("p", { class: "dim", role: "status" }, "Asking the model…"));
	dialog.showModal();
	const { key, image, like, unlike } = query;
	const asked = { ...(image ? { image } : {}), ...(key ? { key } : {}), like, unlike, with: item.key, steps: STEPS, parts: PARTS };
	try {
		const answer = await persist(() => post("/v1/explain", asked, leaving.signal), leaving.signal, logIn);
		if (!leaving.signal.aborted) body.replaceChildren(...told(answer, query, item));
	} catch (problem) {
		if (!leaving.signal.aborted) body.replaceChildren(element("p", { class: "wrong", role: "alert" }, sayOf(problem)));
	}
}

function told(answer, query, item) {
	const asked = query.image ? uploadOf(query.image) : query.key ? thumbnailOf(query.key) : null;
	const row = element("ul", { class: "grid" },
		shown("The query", asked ? picture(asked) : null),
		shown("As the model sees it", still(answer.query)),
		shown("Where they agree", heat(answer.agreement)),
		shown("As the model sees it", still(answer.item)),
		shown(item.label ?? item.key, picture(item.thumbnail)));
	return [
		element("p", { class: "dim" }, "Similarity ", element("b", {}, figure(answer.similarity)), " with ", bdi(item.key)),
		row,
		element("p", { class: "why-scale" }, element("span", {}, "opposite"), element("i", { "aria-hidden": "true" }), element("span", {}, "the same")),
		walk(answer.walk),
		parts(answer),
	];
}

const shown = (words, image) => element("li", { class: "tile" }, element("span", { class: "frame" }, image ?? element("span", { class: "none" }, "several")), element("span", { class: "second" }, bdi(words)));

const addressOf = (png) => `data:image/png;base64,${png}`;

const still = (png) => element("img", { src: addressOf(png), alt: "", class: "tiny" });

/** Return a grey picture of -1 to 1 in colours: amber where two images are opposite, blue where they are the same. */
function heat(png) {
	const canvas = element("canvas", { role: "img", "aria-label": "Heat map of where both reconstructions agree" });
	const grey = new Image();
	grey.addEventListener("load", () => {
		[canvas.width, canvas.height] = [grey.width, grey.height];
		const context = canvas.getContext("2d");
		context.drawImage(grey, 0, 0);
		const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
		for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(colour(pixels.data[at] / 127.5 - 1), at);
		context.putImageData(pixels, 0, 0);
	});
	grey.src = addressOf(png);
	return canvas;
}

const SAME = [63, 87, 200];
const OPPOSITE = [214, 120, 24];
const NEITHER = [238, 239, 243];

function colour(value) {
	const end = value < 0 ? OPPOSITE : SAME;
	return NEITHER.map((from, channel) => from + Math.abs(value) * (end[channel] - from));
}

function walk(stills) {
	const image = still(stills[0]);
	const slider = element("input", { type: "range", min: "0", max: String(stills.length - 1), value: "0", "aria-label": "From the query to the result" });
	slider.addEventListener("input", () => {
		image.src = addressOf(stills[slider.value]);
		slider.setAttribute("aria-valuetext", `${Math.round((100 * slider.value) / (stills.length - 1))} % of the way`);
	});
	return element("section", { class: "why-walk" }, element("h3", {}, "From one to the other"), element("span", { class: "frame" }, image),
		element("div", { class: "why-slider" }, element("span", {}, "query"), slider, element("span", {}, "result")));
}

function parts({ parts: carried, rest }) {
	const most = Math.max(...carried.map(({ contribution }) => Math.abs(contribution)), Math.abs(rest), 1e-6);
	const bar = (name, contribution, image) => {
		const fill = element("i", { class: contribution < 0 ? "against" : "for" });
		fill.style.width = `${(100 * Math.abs(contribution)) / most}%`;
		return element("li", {}, image ?? element("span"), element("span", {}, name), element("span", { class: "bar-ground" }, fill), element("b", {}, figure(contribution)));
	};
	return element("section", {}, element("h3", {}, "What carries the similarity"), element("ol", { class: "why-parts" },
		...carried.map((part) => bar(`Part ${part.dimension}`, part.contribution, still(part.where))),
		bar("All others", rest, null)));
}
