// Which query is shown, and how the page gets from one to the next.
import { get } from "./api.js";
import { Asked } from "./asked.js";
import { announce, at, plural } from "./dom.js";
import { Filters } from "./filters.js";
import { Finding } from "./finding.js";
import { logIn } from "./login.js";
import { notify, persist, sayOf } from "./notices.js";
import { EMPTY, formatAddress, isEmpty, marked, parseAddress, sameSubject } from "./query.js";
import { byItem, Results } from "./results.js";
import { awaitExamples, showExamples, tell } from "./start.js";
import { explain } from "./why.js";

// Searches that Back finds as they were.
const KEPT = 20;

export class Page {
	constructor() {
		this.query = EMPTY;
		this.marks = { like: [], unlike: [] };
		this.kept = new Map();
		this.model = null;
		this.finding = null;
		this.leaving = new AbortController();
		this.asked = new Asked({
			switches: (changes) => this.go({ ...this.query, ...changes }),
			marks: (marks) => this.mark(marks),
			search: () => this.searchMarked(),
		});
		this.filters = new Filters((conditions) => this.go({ ...this.query, conditions }));
		this.results = new Results({
			open: (key) => this.go(byItem(this.query, key)),
			act: (name, item) => this.act(name, item),
			end: () => this.more(),
			keys: { s: () => this.searchMarked() },
		});
		this.load();
	}

	/** A promise of what the index is; it is asked again once that failed, as where no key was given. */
	get info() {
		if (!this.told) this.load();
		return this.told;
	}

	load() {
		const told = persist(() => get("/v1/index"), new AbortController().signal, logIn);
		this.told = told;
		told.then((info) => this.offer(info)).catch((problem) => {
			if (this.told === told) this.told = null;
			notify(sayOf(problem), { wrong: true, lasting: true });
		});
	}

	async offer(info) {
		tell(info);
		this.asked.offer(info.features);
		const told = (path) => persist(() => get(path), new AbortController().signal, logIn);
		const [{ labels, more }, { fields }] = await Promise.all(["/v1/labels", "/v1/fields"].map(told));
		this.filters.offer(labels, fields, more, (find) => get("/v1/labels", { find }).then((answer) => answer.labels));
		this.labels = labels;
		if (isEmpty(this.query) && info.items) await showExamples(labels);
	}

	go(query, answer = null) {
		history.pushState(null, "", formatAddress(query));
		// What was found before may have changed; only Back and Forward return to it.
		this.kept.delete(location.search);
		return this.show(query, answer);
	}

	/** Show what the address says, as after Back. */
	showAddress() {
		const query = parseAddress(location.search);
		if (query.unread) notify("The filter in this address cannot be read, so it was left out.", { wrong: true });
		return this.show(query);
	}

	/** Stop what is under way, and return the signal that stops what comes now. */
	leave() {
		this.leaving.abort();
		this.leaving = new AbortController();
		for (const dialog of document.querySelectorAll("dialog[open]:not(#login)")) dialog.close("");
		if (this.finding) this.finding.scroll = scrollY;
		this.finding = null;
		return this.leaving.signal;
	}

	async show(query, answer = null) {
		const signal = this.leave();
		const focused = at("grid").contains(document.activeElement);
		this.outline(query, signal);
		if (isEmpty(query)) return this.start();
		const finding = this.kept.get(location.search) ?? (await this.found(query, answer, signal));
		if (!finding || signal.aborted) return undefined;
		const info = await this.info;
		this.keep(finding);
		this.results.show(finding, { marks: this.marks, info });
		this.asked.doubt(finding.doubt);
		scrollTo(0, finding.scroll);
		if (focused) this.results.grid.focus();
		return this.results.nearEnd && this.more();
	}

	/** Show the query itself. */
	outline(query, signal) {
		// A filter or switch leaves marks that nothing was searched by yet.
		if (!sameSubject(query, this.query)) this.marks = { like: query.like, unlike: query.unlike };
		this.query = query;
		document.documentElement.dataset.view = isEmpty(query) ? "start" : "search";
		this.asked.show(query);
		this.asked.showMarks(this.marks, query);
		this.filters.show(query.conditions);
		document.title = `${isEmpty(query) ? "" : `${at("asked-name").textContent} – `}Search by image`;
		if (query.key) this.describe(query, signal);
	}

	start() {
		scrollTo(0, 0);
		awaitExamples();
		if (this.labels) showExamples(this.labels).catch(() => {});
		else this.info.catch(() => {});
	}

	async describe(query, signal) {
		const item = await get("/v1/item", { key: query.key }, signal).catch(() => null);
		if (item?.label && !signal.aborted) this.asked.name(query.key, item.label);
	}

	/** Return what is found on the first page, or undefined once it has been said why there is nothing. */
	async found(query, answer, signal) {
		this.results.await();
		try {
			const finding = new Finding(query, await this.info);
			if (answer) finding.take(answer);
			else await persist(() => finding.more(signal), signal, logIn);
			this.asked.again();
			return finding;
		} catch (problem) {
			if (!signal.aborted) this.results.nothing(sayOf(problem, query));
			return undefined;
		}
	}

	/** Keep what was found for Back, unless it is by another model than the searches of before. */
	keep(finding) {
		const { model } = finding;
		if (this.model && this.model.fingerprint !== model.fingerprint) {
			this.kept.clear();
			notify(`The index has moved to a new model, ${model.name}, version ${model.version}. These results are by the new one.`, { name: "model" });
			this.load();
		}
		this.model = model;
		this.finding = finding;
		this.kept.delete(location.search);
		this.kept.set(location.search, finding);
		if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
	}

	/** Load the next page, if there is one; return whether there is. */
	more() {
		const { finding } = this;
		if (!finding || finding.next === null) return false;
		if (!finding.loading) this.loadMore(finding, this.leaving.signal);
		return true;
	}

	async loadMore(finding, signal) {
		finding.loading = true;
		try {
			const neighbours = await persist(() => finding.more(signal), signal, logIn);
			if (signal.aborted) return;
			this.results.add(finding, neighbours, { marks: this.marks, info: await this.info });
		} catch (problem) {
			if (signal.aborted) return;
			// Latents of two models cannot be compared, so the rest cannot follow what is shown.
			if (problem.status === 409) this.again(finding);
			else notify(sayOf(problem), { wrong: true });
			return;
		} finally {
			finding.loading = false;
		}
		if (this.results.nearEnd) this.more();
	}

	again(finding) {
		this.kept.clear();
		finding.scroll = 0;
		this.show(finding.query);
	}

	act(name, item) {
		if (name === "why") this.info.then(({ features }) => features.explain && explain(this.query, item));
		else this.mark(marked(this.marks, item.key, this.marks[name].includes(item.key) ? null : name));
	}

	mark({ like, unlike }) {
		this.marks = { like, unlike };
		this.results.grid.showMarks(this.marks);
		this.asked.showMarks(this.marks, this.query);
		announce(`${plural(like.length, "image")} marked as like, ${plural(unlike.length, "image")} as unlike`);
	}

	searchMarked() {
		const { like, unlike } = this.marks;
		const query = { ...this.query, like, unlike };
		if (isEmpty(query) && unlike.length) return notify("Mark an image as like, too. Images marked as unlike do not say what to look for.", { name: "marks" });
		if (formatAddress(query) !== formatAddress(this.query)) this.go(query);
	}
}
