// The start page: what the index holds, and some of its images to begin with.
import { get } from "./api.js";
import { at, plural } from "./dom.js";
import { EMPTY, formatAddress } from "./query.js";
import { coming, tile } from "./tile.js";

const EXAMPLES = 14;

export function awaitExamples() {
	if (!at("examples").children.length) at("examples").append(...Array.from({ length: EXAMPLES }, coming));
}

export function tell(info) {
	const { items, model, recall } = info;
	at("about").textContent = items
		? `Looks through ${plural(items, "image")}.`
		: "This index is empty. Add images by POST /v1/items or by “ae-search index add”, then search.";
	const figures = [plural(items, "image"), `model ${model.name}, version ${model.version}`];
	if (recall) figures.push(`recall ${recall.toFixed(3)}`);
	at("foot").textContent = figures.join(" · ");
	at("examples-title").hidden = !items;
	if (!items) at("examples").replaceChildren();
}

/** Show some images of the index, of different labels where there are such. */
export async function showExamples(labels) {
	const named = labels.map(({ label }) => label).filter((label) => label !== null).slice(0, EXAMPLES);
	const wanted = named.length > 1 ? named : [null];
	const limit = Math.ceil(EXAMPLES / wanted.length);
	const answers = await Promise.all(wanted.map((label) => get("/v1/items", { label, limit, thumbnails: true })));
	const lists = answers.map(({ items }) => items);
	const turns = Array.from({ length: limit }, (_, turn) => lists.map((items) => items[turn]).filter(Boolean)).flat();
	const tiles = turns.slice(0, EXAMPLES).map((item) => tile(item, formatAddress({ ...EMPTY, key: item.key }), { plain: true }));
	at("examples").replaceChildren(...tiles);
}
