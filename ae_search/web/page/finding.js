// What was found for one query, page by page.
import { address, get } from "./api.js";
import { whereOf } from "./query.js";

const PAGE = 60;

/** Return whether a query may ask for altered views and originals: those are made of an image, by itself. */
export const ofImageAlone = ({ image, like, unlike }) => Boolean(image) && !like.length && !unlike.length;

export class Finding {
	constructor(query, info) {
		Object.assign(this, { query, features: info.features, k: Math.min(PAGE, info.limits.k) });
		this.neighbours = [];
		this.loading = false;
		this.scroll = 0;
	}

	/** What the service is asked, without the image itself. */
	get parameters() {
		const { key, like, unlike, conditions, exact } = this.query;
		const alone = ofImageAlone({ ...this.query, image: true });
		return {
			key, like, unlike, exact, where: conditions.length ? JSON.stringify(whereOf(conditions)) : null, k: this.k, thumbnails: true,
			fold: this.features.fold, plain: !key,
			views: !key && alone && this.query.views, originals: !key && alone && this.query.originals && this.features.originals,
			check_reconstruction: !key && Boolean(this.features.distrust && this.features.explain),
		};
	}

	/** Where the service answers the query. */
	get address() {
		const { image } = this.query;
		const ofNone = { plain: false, views: false, originals: false, check_reconstruction: false };
		return address("/v1/search", { ...this.parameters, image, ...(image ? {} : ofNone) });
	}

	/** Ask for the next page, and return the neighbours on it. */
	async more(signal) {
		return this.take(await get(this.address, { cursor: this.next }, signal));
	}

	take(answer) {
		const first = this.next === undefined;
		this.next = answer.next;
		// Nothing follows although there is more: the search ends at a certain depth.
		this.cut = answer.next === null && answer.more;
		this.model = answer.model;
		this.took_ms = answer.took_ms;
		if (first) Object.assign(this, { plain: answer.plain, verdict: answer.verdict, trust: answer.trust ?? null });
		this.neighbours.push(...answer.neighbours);
		return answer.neighbours;
	}

	/** What makes the results doubtful, in a sentence; null where nothing does. */
	get doubt() {
		if (this.plain) return "This image is of one colour: images like that have no meaningful neighbours.";
		if (this.trust?.familiar !== false) return null;
		return "This image is unlike what the model was trained on, so similarities may mean little here.";
	}
}
