// The REST service: requests, uploads with progress, and its problems as one class of errors.

/** What went wrong; `code` is what the page decides by, "Away" where nobody answers, "Cancelled" where the user did. */
export class Problem extends Error {
	constructor(code, detail, status = 0, wait_s = null) {
		super(detail);
		Object.assign(this, { code, detail, status, wait_s });
	}
}

const away = () => new Problem("Away", "The search service does not answer.");
const cancelled = () => new Problem("Cancelled", "Cancelled.");

export function address(path, parameters = {}) {
	const values = new URLSearchParams();
	for (const [name, value] of Object.entries(parameters)) {
		if (value === null || value === undefined || value === false) continue;
		for (const one of Array.isArray(value) ? value : [value]) values.append(name, one);
	}
	const text = values.toString();
	return text ? path + (path.includes("?") ? "&" : "?") + text : path;
}

export const thumbnailOf = (key) => address("/v1/thumbnail", { key });
export const uploadOf = (digest) => `/v1/uploads/${encodeURIComponent(digest)}`;

function problemOf(status, text, wait) {
	let body = {};
	try {
		body = JSON.parse(text) ?? {};
	} catch {
		// A proxy's own page.
	}
	const wait_s = Number(wait) || null;
	// Proxies answer so where the service behind them is away.
	if (!body.code && [502, 503, 504].includes(status)) return away();
	return new Problem(body.code ?? "Unknown", body.detail ?? `The search service answered with status ${status}.`, status, wait_s);
}

async function answerOf(path, options) {
	let response;
	try {
		response = await fetch(path, options);
		if (response.ok) return response.status === 204 ? null : await response.json();
	} catch (error) {
		throw error.name === "AbortError" ? cancelled() : away();
	}
	const text = await response.text().catch(() => "");
	throw problemOf(response.status, text, response.headers.get("Retry-After"));
}

export const get = (path, parameters, signal) => answerOf(address(path, parameters), { signal });

export const post = (path, value, signal) =>
	answerOf(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value), signal });

export const remove = (path) => answerOf(path, { method: "DELETE" });

/** Return an image that the service keeps, or a thumbnail, as a file. */
export async function fetchFile(path) {
	const response = await fetch(path).catch(() => null);
	if (!response) throw away();
	if (!response.ok) throw problemOf(response.status, await response.text(), null);
	return response.blob();
}

/** Send a file, and call `onSent` with the share that has left; fetch cannot tell it. */
export function send(path, file, { signal, onSent = () => {} } = {}) {
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest();
		request.open("POST", path);
		request.setRequestHeader("Content-Type", file.type.startsWith("image/") ? file.type : "application/octet-stream");
		request.upload.addEventListener("progress", (event) => event.lengthComputable && onSent(event.loaded / event.total));
		request.addEventListener("error", () => reject(away()));
		request.addEventListener("abort", () => reject(cancelled()));
		request.addEventListener("load", () => {
			if (request.status >= 300) reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
			else resolve(JSON.parse(request.responseText));
		});
		signal?.addEventListener("abort", () => request.abort());
		if (signal?.aborted) reject(cancelled());
		else request.send(file);
	});
}
