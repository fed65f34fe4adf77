// What can be taken along: the address, the results as JSON or CSV, and the command line that finds the same.
import { uploadOf } from "./api.js";
import { ofImageAlone } from "./finding.js";
import { whereOf } from "./query.js";

const COLUMNS = ["rank", "key", "label", "similarity", "distance", "metadata"];

export const asJson = (neighbours) =>
	JSON.stringify(neighbours.map((one) => Object.fromEntries(COLUMNS.map((name) => [name, one[name] ?? null]))), null, 2);

// Spreadsheets take a text that begins so for a formula.
const FORMULA = /^[=+\-@\t\r]/;

function cell(value) {
	if (value === null || value === undefined) return "";
	if (typeof value === "number") return String(value);
	const text = typeof value === "object" ? JSON.stringify(value) : value;
	const safe = FORMULA.test(text) ? `'${text}` : text;
	return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export const asCsv = (neighbours) =>
	[COLUMNS.join(","), ...neighbours.map((one) => COLUMNS.map((name) => cell(one[name])).join(","))].join("\r\n") + "\r\n";

const quoted = (text) => (/^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Return the command line that does the same search: `name` is the query's file, if known. */
export function asCommand(query, { k, name, told }) {
	const words = ["ae-search query"];
	const before = query.image && !name ? `curl -o query-image ${quoted(location.origin + uploadOf(query.image))} && ` : "";
	if (query.image) words.push(quoted(name ?? "query-image").replace(/^-/, "./-"));
	else if (query.key) words.push(`--key=${quoted(query.key)}`);
	for (const sign of ["like", "unlike"]) for (const key of query[sign]) words.push(`--${sign}=${quoted(key)}`);
	words.push(`--index ${quoted(told.index ?? "INDEX")}`, `-k ${k}`);
	if (query.image) words.push(told.model ? `--model ${quoted(told.model)}` : `--server ${quoted(told.server ?? "HOST:PORT")}`);
	if (query.conditions.length) words.push(`--where ${quoted(JSON.stringify(whereOf(query.conditions)))}`);
	for (const flag of ["exact", "views", "originals"]) if (query[flag] && (flag === "exact" || ofImageAlone(query))) words.push(`--${flag}`);
	return before + words.join(" ");
}

/** Put a text on the clipboard; browsers lend it to pages of plain HTTP from other machines by the old way only. */
export async function copyText(text) {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch {
		const area = document.createElement("textarea");
		area.value = text;
		area.className = "unseen";
		document.body.append(area);
		area.select();
		const copied = document.execCommand("copy");
		area.remove();
		return copied;
	}
}
