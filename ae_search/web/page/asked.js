// The query as the page shows it: its picture and name, crop, upload, doubts, marks and switches.
import { thumbnailOf, uploadOf } from "./api.js";
import { at, bdi, element, icon, plural, visible } from "./dom.js";
import { ofImageAlone } from "./finding.js";
import { marked } from "./query.js";
import { picture } from "./tile.js";

export class Asked {
	/** `on` has switches(changes), marks(query) and search(). */
	constructor(on) {
		this.on = on;
		// Files of this visit by digest: shown, named and cropped without asking the service.
		this.files = new Map();
		at("marks-search").addEventListener("click", () => on.search());
		at("marks-clear").addEventListener("click", () => {
			on.marks({ like: [], unlike: [] });
			on.search();
		});
		at("marked").addEventListener("click", (event) => {
			const button = event.target.closest("button");
			if (button) on.marks(marked(this.marks, button.markedKey, null));
		});
		for (const box of document.querySelectorAll(".switch input")) {
			box.addEventListener("change", () => on.switches({ [box.name]: box.checked }));
		}
		at("options-open").addEventListener("click", () => {
			const open = at("options").classList.toggle("open");
			at("options-open").setAttribute("aria-expanded", String(open));
		});
		at("asked-image").addEventListener("error", () => this.failed());
		at("asked-image").addEventListener("load", ({ target }) => {
			target.hidden = false;
			if (this.query) at("crop-open").hidden = !(this.query.image || this.query.key);
			if (!this.query?.key) this.measure(target);
		});
	}

	/** Show a query. */
	show(query) {
		this.query = query;
		const file = this.files.get(query.image);
		const address = query.image ? file?.address ?? uploadOf(query.image) : query.key ? thumbnailOf(query.key) : null;
		this.showPicture(address, query.key || query.image ? [] : query.like);
		this.name(this.nameOf(query, file), "");
		at("crop-open").hidden = !(query.image || query.key);
		at("crop-undo").hidden = !query.whole;
		// It may have loaded, or failed to, while the file was sent.
		const image = at("asked-image");
		if (address && image.complete) {
			if (!image.naturalWidth) this.failed();
			else if (query.image) this.measure(image);
		}
		for (const box of document.querySelectorAll(".switch input")) {
			box.checked = query[box.name];
			box.disabled = ["views", "originals"].includes(box.name) && !ofImageAlone(query);
		}
		this.doubt(null);
	}

	nameOf(query, file) {
		if (query.key) return query.key;
		if (!query.image) return `More like ${plural(query.like.length, "image")}`;
		return query.whole ? "Part of an image" : file?.name ?? "An image";
	}

	name(name, note) {
		at("asked-name").replaceChildren(bdi(name));
		at("asked-note").replaceChildren(note ? bdi(note) : " ");
	}

	/** Tell how large the image is that was searched by, and which part of another it is. */
	measure({ naturalWidth, naturalHeight }) {
		const crop = this.query?.crop;
		const part = crop ? `${Math.round(100 * crop.width)} × ${Math.round(100 * crop.height)} % of it, ` : "";
		if (naturalWidth) at("asked-note").textContent = `${part}${naturalWidth} × ${naturalHeight} px`;
	}

	showPicture(address, keys = []) {
		const image = at("asked-image");
		image.hidden = !address;
		if (address && image.getAttribute("src") !== address) image.src = address;
		at("asked-none").replaceChildren(...keys.slice(0, 9).map((key) => picture(thumbnailOf(key))));
	}

	/** Browsers cannot show every image that the service can: it has one for them. */
	failed() {
		const digest = this.query?.image;
		const file = this.files.get(digest);
		if (file?.address) {
			file.address = null;
			at("asked-image").src = uploadOf(digest);
		} else at("asked-image").hidden = at("crop-open").hidden = true;
	}

	/** Ask anew for a picture that could not be had, as before a log-in. */
	again() {
		const image = at("asked-image");
		if (image.hidden && (this.query?.image || this.query?.key)) image.src = image.getAttribute("src");
	}

	sending(file, address, onCancel) {
		this.query = null;
		this.showPicture(address);
		this.name(file.name ?? "An image", "");
		this.doubt(null);
		at("crop-open").hidden = at("crop-undo").hidden = true;
		at("sending").hidden = false;
		at("options").inert = at("marks").inert = true;
		at("cancel").onclick = onCancel;
		this.sent(0);
	}

	sent(share) {
		const all = share >= 1;
		if (all) at("sent").removeAttribute("value");
		else at("sent").value = share;
		at("sent-words").textContent = all ? "Searching…" : `Sending ${Math.round(100 * share)} %`;
	}

	done() {
		at("sending").hidden = true;
		at("options").inert = at("marks").inert = false;
	}

	doubt(text) {
		at("distrust").hidden = !text;
		at("distrust-words").textContent = text ?? "";
	}

	offer(features) {
		for (const name of ["views", "originals"]) {
			document.querySelector(`[data-switch="${name}"]`).hidden = !features[name];
		}
		document.querySelector('[data-switch="unfold"]').hidden = !features.fold;
	}

	showMarks(marks, query) {
		this.marks = marks;
		at("marks").hidden = ![marks.like, marks.unlike, query.like, query.unlike].some((keys) => keys.length);
		const same = JSON.stringify([marks.like, marks.unlike]) === JSON.stringify([query.like, query.unlike]);
		at("marks-search").disabled = same;
		const item = (key, sign, words) => {
			const button = element("button", { title: visible(`${words} ${key}: remove`.slice(0, 300)), "aria-label": `${words} ${key.slice(0, 300)}, remove` },
				picture(thumbnailOf(key)), element("span", { class: "sign" }, icon(sign)));
			button.markedKey = key;
			return element("li", { class: sign === "plus" ? "like" : "unlike" }, button);
		};
		at("marked").replaceChildren(
			...marks.like.map((key) => item(key, "plus", "More like")),
			...marks.unlike.map((key) => item(key, "minus", "Less like")),
		);
	}
}
