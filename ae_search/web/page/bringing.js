// Searching by an image that the user brings, and by a part of the query.
import { address, fetchFile, Problem, send, thumbnailOf, uploadOf } from "./api.js";
import { chooseCrop, cutOut } from "./crop.js";
import { at, counted } from "./dom.js";
import { Finding } from "./finding.js";
import { logIn } from "./login.js";
import { notify, passes, persist, sayOf } from "./notices.js";
import { byItem } from "./results.js";

export const UNSEEN = "This browser cannot show the image, so it cannot be cropped here.";

/** Search by a file; `cut` holds `whole` and `crop` where it was cut out of another image. */
export async function searchByFile(page, file, cut = {}) {
	const info = await page.info.catch(() => null);
	if (!info) return undefined;
	const most = info.limits.body_bytes;
	if (file.size > most) return notify(`This file is too large: the search takes ${counted(Math.floor(most / 2 ** 20))} MB.`, { wrong: true, name: "image" });
	const signal = page.leave();
	const query = { ...byItem(page.query, null), ...cut };
	const local = URL.createObjectURL(file);
	document.documentElement.dataset.view = "search";
	page.results.await();
	page.asked.sending(file, local, () => page.leaving.abort());
	try {
		if (!(await readable(file))) {
			page.asked.done();
			notify("This file cannot be read. A folder, or a file that was moved or changed, cannot be searched by.", { wrong: true, name: "image" });
			return await page.showAddress();
		}
		const answer = await sent(page, file, { signal, parameters: new Finding(query, info).parameters });
		page.asked.files.set(answer.query.image, { file, name: file.name, address: local });
		page.asked.done();
		return await page.go({ ...query, image: answer.query.image }, answer);
	} catch (problem) {
		page.asked.done();
		// Another search has begun meanwhile, if the signal is not the page's any more.
		if (page.leaving.signal !== signal) return undefined;
		if (problem.code === "Cancelled" || passes(problem)) notify("Cancelled. Nothing was searched.");
		else notify(sayOf(problem), { wrong: true, name: "image" });
		return page.showAddress();
	}
}

/** Tell whether the browser can read a file: it cannot read a folder, nor what was moved or changed since. */
const readable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

const sent = (page, file, { signal, parameters }) => {
	const path = address("/v1/search", { ...parameters, keep: true });
	return persist(() => send(path, file, { signal, onSent: (share) => page.asked.sent(share) }), signal, logIn);
};

/** Let the user cut a part out of the query, and search by it. */
export async function searchByPart(page) {
	const { query, leaving: { signal } } = page;
	if (!query.image && !query.key) return;
	let local;
	try {
		const source = await wholeOf(query, page.asked.files);
		if (signal.aborted) return;
		local = URL.createObjectURL(source.file);
		const crop = await chooseCrop(local, query.crop);
		const part = crop && (await cutOut(source.file, crop));
		const whole = part && (source.digest ?? (await send("/v1/uploads", source.file, { signal })).image);
		if (part && !signal.aborted) await searchByFile(page, part, { whole, crop });
	} catch (problem) {
		if (signal.aborted) return;
		const text = problem instanceof Problem ? sayOf(problem, query) : UNSEEN;
		notify(text, { wrong: true });
	} finally {
		URL.revokeObjectURL(local);
		if (!signal.aborted) at("crop-open").focus({ preventScroll: true });
	}
}

/** Return the file that a part is cut out of, and its digest where the service has it. */
async function wholeOf({ key, image, whole }, files) {
	const digest = whole ?? image;
	const local = files.get(digest);
	if (local?.address && (await readable(local.file))) return { digest, file: local.file };
	return { digest, file: await fetchFile(digest ? uploadOf(digest) : thumbnailOf(key)) };
}
