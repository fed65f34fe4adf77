// The part of the page that shows what was found, or says why nothing is there.
import { announce, at, counted, element, plural } from "./dom.js";
import { Grid } from "./grid.js";
import { EMPTY, formatAddress } from "./query.js";

const AWAITED = 24;
const AHEAD_PX = 900;
const VERDICTS = {
	"this is it": "This is it: the index has this very image.",
	probably: "Probably: the first result may well be the original of this image.",
	"not here": "Not here: nothing in the index is the original of this image.",
};

/** Return the query that follows a click on an item: by it alone, with the filters and switches of before. */
export const byItem = (query, key) => {
	const { conditions, views, exact, originals, unfold } = query;
	return { ...EMPTY, conditions, views, exact, originals, unfold, key };
};

const took = (ms) => (ms < 1000 ? `${Math.max(ms, 1).toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

export class Results {
	/** `on` is what `Grid` takes. */
	constructor(on) {
		this.grid = new Grid(at("grid"), on);
	}

	await() {
		this.grid.await(AWAITED);
		for (const id of ["nothing", "end", "more-button", "verdict"]) at(id).hidden = true;
		at("found-title").textContent = "Searching…";
		scrollTo(0, 0);
	}

	/** Show all that was found so far. */
	show(finding, { marks, info }) {
		this.grid.clear();
		at("nothing").hidden = true;
		at("verdict").hidden = !finding.verdict;
		at("verdict").textContent = VERDICTS[finding.verdict] ?? "";
		at("verdict").dataset.verdict = finding.verdict ?? "";
		if (finding.neighbours.length) return this.add(finding, finding.neighbours, { marks, info });
		const filtered = finding.query.conditions.length;
		return this.nothing(filtered ? "Nothing meets these filters. Remove one of them to see more." : "There is nothing else in this index.");
	}

	/** Show more of it. */
	add(finding, neighbours, { marks, info }) {
		const { query } = finding;
		const hrefOf = (key) => formatAddress(byItem(query, key));
		const { explain, fold } = info.features;
		this.grid.append(neighbours, { hrefOf, marks, canExplain: explain, fold: fold && !query.unfold });
		const number = finding.neighbours.length;
		const among = query.conditions.length ? "that meet the filters" : `of ${counted(info.items)}`;
		const figures = `${counted(number)} shown ${among} · ${took(finding.took_ms)}`;
		at("found-title").replaceChildren("Similar images", element("small", {}, figures));
		at("more-button").hidden = finding.next === null;
		at("end").hidden = finding.next !== null;
		at("end").textContent = finding.cut ? "A search ends at this depth. Filter to see others." : "That is all there is.";
		announce(`${plural(number, "result")} shown`);
	}

	nothing(text) {
		this.grid.clear();
		at("found-title").textContent = "Nothing found";
		at("nothing").textContent = text;
		at("nothing").hidden = false;
		for (const id of ["more-button", "end", "verdict"]) at(id).hidden = true;
		announce(text);
	}

	get nearEnd() {
		return at("more").getBoundingClientRect().top < innerHeight + AHEAD_PX;
	}
}
