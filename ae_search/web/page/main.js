// Begins: listens to what the whole page reacts to, and shows what the address says.
import { get } from "./api.js";
import { searchByFile, searchByPart, UNSEEN } from "./bringing.js";
import { asCommand, asCsv, asJson, copyText } from "./copying.js";
import { at } from "./dom.js";
import { takeImages } from "./intake.js";
import { offerLogOut } from "./login.js";
import { notify } from "./notices.js";
import { EMPTY } from "./query.js";
import { byItem } from "./results.js";
import { Page } from "./page.js";

const page = new Page();

takeImages((file) => searchByFile(page, file), (text) => notify(text, { wrong: true }));
at("crop-open").addEventListener("click", () => searchByPart(page));
at("crop-undo").addEventListener("click", () => page.go({ ...page.query, image: page.query.whole, whole: null, crop: null }));
at("by-key").addEventListener("submit", (event) => {
	event.preventDefault();
	const key = at("key").value;
	if (!key) return;
	at("key").blur();
	page.go(byItem(page.query, key));
});
document.addEventListener("click", (event) => {
	const link = event.target.closest?.("[data-home], .examples .open");
	if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
	event.preventDefault();
	page.go(link.matches("[data-home]") ? EMPTY : { ...EMPTY, key: link.closest(".tile").item.key });
});
addEventListener("popstate", () => page.showAddress());
at("more-button").addEventListener("click", () => page.more());
// An IntersectionObserver misses an end that moves on and is reached within one frame.
for (const kind of ["scroll", "resize"]) addEventListener(kind, () => page.results.nearEnd && page.more(), { passive: true });
at("help-open").addEventListener("click", () => at("help").showModal());
at("crop-image").addEventListener("error", () => {
	at("crop").close("");
	notify(UNSEEN, { wrong: true });
});

listenToKeys();
listenToCopy();
history.scrollRestoration = "manual";
get("/v1/session").then(offerLogOut).catch(() => {});
page.showAddress();

function listenToKeys() {
	addEventListener("keydown", (event) => {
		const typing = event.target.closest?.("input:not([type='checkbox']), textarea, select, dialog");
		if (event.key === "Escape") leave(event.target);
		if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
		event.preventDefault();
		at("key").focus();
		at("key").select();
	});
}

/** Leave what Esc leaves; the browser closes dialogs by itself. */
function leave(target) {
	if (!at("copy-menu").hidden) {
		showCopy(false);
		at("copy-open").focus();
	} else if (target.closest?.("dialog")) return;
	else if (!at("sending").hidden) at("cancel").click();
	else target.blur?.();
}

function showCopy(open) {
	at("copy-menu").hidden = !open;
	at("copy-open").setAttribute("aria-expanded", String(open));
	if (open) at("copy-menu").querySelector("button").focus();
}

function listenToCopy() {
	at("copy-open").addEventListener("click", () => showCopy(at("copy-menu").hidden));
	document.addEventListener("click", (event) => !event.target.closest?.(".copy") && showCopy(false));
	at("copy-menu").addEventListener("click", async (event) => {
		const kind = event.target.closest("[data-copy]")?.dataset.copy;
		if (!kind) return;
		showCopy(false);
		const copied = await copyText(await textOf(kind));
		notify(copied ? "Copied." : "The browser does not let this page use the clipboard.", { wrong: !copied, name: "copy" });
	});
}

async function textOf(kind) {
	const neighbours = page.finding?.neighbours ?? [];
	if (kind === "address") return location.href;
	if (kind === "json") return asJson(neighbours);
	if (kind === "csv") return asCsv(neighbours);
	const { command } = await page.info;
	const file = page.query.whole ? null : page.asked.files.get(page.query.image);
	return asCommand(page.query, { k: Math.max(neighbours.length, 1), name: file?.name, told: command });
}
