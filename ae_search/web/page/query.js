// A query as a value: what the address holds, and back. One address is one query, whoever opens it.
import { formatCrop, parseCrop } from "./crop.js";

export const SWITCHES = ["views", "exact", "originals", "unfold"];

export const EMPTY = Object.freeze({
	key: null, // of an indexed item
	image: null, // digest of an uploaded image
	whole: null, // digest of the image that `image` was cut out of, by `crop`
	crop: null,
	like: [],
	unlike: [],
	conditions: [],
	views: false,
	exact: false,
	originals: false,
	unfold: false,
});

export const isEmpty = (query) => !query.key && !query.image && !query.like.length;

/** Tell whether two queries differ in filters and switches at most. */
export const sameSubject = (one, other) =>
	["key", "image", "like", "unlike"].every((name) => JSON.stringify(one[name]) === JSON.stringify(other[name]));

export function parseAddress(search) {
	const values = new URLSearchParams(search);
	const query = { ...EMPTY, key: values.get("key"), image: values.get("image") || null };
	query.whole = query.image && values.get("whole");
	query.crop = query.whole ? parseCrop(values.get("crop")) : null;
	query.like = [...new Set(values.getAll("like"))];
	query.unlike = [...new Set(values.getAll("unlike"))];
	const conditions = parseConditions(values.get("where"));
	query.conditions = conditions ?? [];
	query.unread = !conditions;
	for (const name of SWITCHES) query[name] = values.get(name) === "1";
	return query;
}

export function formatAddress(query) {
	const values = new URLSearchParams();
	for (const name of ["key", "image", "whole"]) if (query[name]) values.set(name, query[name]);
	if (query.crop) values.set("crop", formatCrop(query.crop));
	for (const name of ["like", "unlike"]) for (const key of query[name]) values.append(name, key);
	if (query.conditions.length) values.set("where", JSON.stringify(whereOf(query.conditions)));
	for (const name of SWITCHES) if (query[name]) values.set(name, "1");
	const text = values.toString();
	return text ? `?${text}` : location.pathname;
}

/** Return the conditions that an address holds, or null where they cannot be read. */
function parseConditions(text) {
	if (text === null) return [];
	try {
		const where = JSON.parse(text);
		return where && typeof where === "object" && !Array.isArray(where) ? conditionsOf(where) : null;
	} catch {
		return null;
	}
}

/** Return a filter as conditions `{field, test, value}`; all must hold. */
export function conditionsOf(where) {
	return Object.entries(where).flatMap(([field, tests]) => {
		const pairs = tests !== null && typeof tests === "object" ? Object.entries(tests) : [["eq", tests]];
		return pairs.map(([test, value]) => ({ field, test, value }));
	});
}

/** Return conditions as the filter that the service takes. */
export function whereOf(conditions) {
	const where = new Map();
	for (const { field, test, value } of conditions) where.set(field, { ...where.get(field), [test]: value });
	const plain = [...where].map(([field, tests]) => {
		const [only, ...others] = Object.entries(tests);
		return [field, !others.length && only[0] === "eq" ? only[1] : tests];
	});
	return Object.fromEntries(plain);
}

export const withCondition = (conditions, added) => [
	...conditions.filter((one) => one.field !== added.field || one.test !== added.test),
	added,
];

/** Return the labels that the conditions ask for, or null where they ask for none by name. */
export function labelsAsked(conditions) {
	const one = conditions.find(({ field, test }) => field === "label" && (test === "eq" || test === "in"));
	return one ? new Set([one.value].flat()) : null;
}

/** Return conditions that ask for these labels and for none by name where there are none. */
export function withLabels(conditions, labels) {
	const others = conditions.filter(({ field, test }) => field !== "label" || (test !== "eq" && test !== "in"));
	if (!labels.length) return others;
	const asked = labels.length === 1 ? { test: "eq", value: labels[0] } : { test: "in", value: labels };
	return [...others, { field: "label", ...asked }];
}

/** Return a query with an item marked as like, unlike, or not at all. */
export function marked(query, key, sign) {
	const without = { like: query.like.filter((one) => one !== key), unlike: query.unlike.filter((one) => one !== key) };
	return { ...query, ...without, ...(sign ? { [sign]: [...without[sign], key] } : {}) };
}
