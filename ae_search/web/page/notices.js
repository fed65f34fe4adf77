// What the page says when something goes wrong, a sentence for each case.
import { at, element, icon, visible } from "./dom.js";

const SECONDS_SHOWN = 9;

// These pass by themselves: the page asks again.
const PASSING = {
	Away: "The search service does not answer.",
	Busy: "Many people search at this moment.",
	ServerUnavailableError: "The model server cannot be reached, so new images have to wait; searches by key still work.",
	ServerTimeoutError: "The model server takes too long.",
	DeadlineExceeded: "The search takes too long.",
	ModelNotServedError: "The model of this index is not served at this moment.",
	ModelMismatchError: "The index and the served model do not belong together at this moment: a new model is on its way.",
	IndexBusyError: "The index is being written.",
	ShuttingDown: "The search service is being restarted.",
	ImageRefusedError: "The model server refused this image.",
};

const FINAL = {
	ImageError: "This image cannot be searched by.",
	TooLarge: "This file is too large.",
	UnsupportedMediaType: "This file is no image that the search can read.",
	LoginNeeded: "This search asks for a key.",
};

export const passes = (problem) => problem.code in PASSING && problem.status !== 409;

// The service calls what was sent "image".
const sentence = (text) => text.replace(/^image( 0)?: /, "").replace(/^./u, (first) => first.toUpperCase());

/** Return what to say about a problem with a query. */
export function sayOf(problem, query = null) {
	if (problem.code === "NotFound" && query) {
		if (query.image) return "This image is no longer kept by the search service. Bring it again to search by it.";
		if (query.key && !query.like.length) return `The index has no item with the key “${query.key}”.`;
	}
	if (passes(problem)) return `${PASSING[problem.code]} This page tries again by itself.`;
	const detail = problem.code === "LoginNeeded" ? "" : sentence(problem.detail);
	return `${FINAL[problem.code] ?? ""} ${detail}`.trim();
}

/** Show a message; it stays while `lasting`, and one of the same `name` takes its place. */
export function notify(text, { wrong = false, lasting = false, name = text } = {}) {
	dismiss(name);
	const close = element("button", { class: "round", "aria-label": "Close this message" }, icon("close"));
	const notice = element("div", { class: `notice${wrong ? " wrong" : ""}`, role: wrong ? "alert" : "status" });
	notice.dataset.name = name;
	notice.append(icon(wrong ? "warning" : "mark"), visible(text), close);
	close.addEventListener("click", () => notice.remove());
	at("notices").append(notice);
	if (!lasting) setTimeout(() => notice.remove(), 1000 * SECONDS_SHOWN);
}

export function dismiss(name) {
	for (const notice of [...at("notices").children]) if (notice.dataset.name === name) notice.remove();
}

const pause = (seconds, signal) => new Promise((resolve) => {
	const timer = setTimeout(resolve, 1000 * seconds);
	signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
});

/** Run until it works, for problems that pass by themselves; `logIn` is asked where a key is needed. */
export async function persist(run, signal, logIn) {
	for (let wait_s = 1; ; wait_s = Math.min(2 * wait_s, 8)) {
		try {
			const result = await run();
			dismiss("passing");
			return result;
		} catch (problem) {
			if (problem.code === "LoginNeeded" && (await logIn())) continue;
			if (!passes(problem) || signal.aborted) {
				dismiss("passing");
				throw problem;
			}
			notify(sayOf(problem), { wrong: true, lasting: true, name: "passing" });
			await pause(problem.wait_s ?? wait_s, signal);
			if (!signal.aborted) continue;
			dismiss("passing");
			throw problem;
		}
	}
}
