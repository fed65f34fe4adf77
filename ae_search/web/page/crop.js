// A rectangle on the query, by mouse, touch and keyboard. What is sent is cut out at full resolution.
import { announce, at } from "./dom.js";

// Shares of the sides; nothing smaller can be drawn by accident.
const LEAST = 0.04;
const STEP = 0.02;
// Of the image, in hundredths of the window's.
const HEIGHT = 56;
// A crop of more pixels is sent as JPEG: as PNG it would be larger than what servers accept.
const PNG_PIXELS = 4e6;
const JPEG_QUALITY = 0.95;

const between = (low, value, high) => Math.min(Math.max(value, low), high);

/** Return a rectangle `{left, top, width, height}` that lies within the image, in shares of its sides. */
export function within({ left, top, width, height }) {
	const wide = between(LEAST, width, 1);
	const high = between(LEAST, height, 1);
	return { left: between(0, left, 1 - wide), top: between(0, top, 1 - high), width: wide, height: high };
}

/** Return the rectangle that the address holds as four shares, or null where it is none. */
export function parseCrop(text) {
	const sides = (text ?? "").split(",").map(Number);
	if (sides.length !== 4 || !sides.every((side) => side >= 0 && side <= 1)) return null;
	const [left, top, width, height] = sides;
	return width && height ? within({ left, top, width, height }) : null;
}

export const formatCrop = ({ left, top, width, height }) =>
	[left, top, width, height].map((side) => Number(side.toFixed(4))).join(",");

/** Return the part of an image file that lies within a rectangle, as a file. */
export async function cutOut(file, crop) {
	const whole = await createImageBitmap(file);
	const left = between(0, Math.round(crop.left * whole.width), whole.width - 1);
	const top = between(0, Math.round(crop.top * whole.height), whole.height - 1);
	const width = between(1, Math.round(crop.width * whole.width), whole.width - left);
	const height = between(1, Math.round(crop.height * whole.height), whole.height - top);
	const canvas = document.createElement("canvas");
	[canvas.width, canvas.height] = [width, height];
	const kind = width * height > PNG_PIXELS ? "image/jpeg" : "image/png";
	const context = canvas.getContext("2d");
	// JPEG has no alpha, and browsers would put black behind it; the model sees white.
	if (kind === "image/jpeg") {
		context.fillStyle = "white";
		context.fillRect(0, 0, width, height);
	}
	context.drawImage(whole, left, top, width, height, 0, 0, width, height);
	whole.close();
	return new Promise((resolve) => canvas.toBlob(resolve, kind, JPEG_QUALITY));
}

/** Let the user draw a rectangle on an image; resolve to it, or to null. */
export function chooseCrop(address, crop) {
	const dialog = at("crop");
	const drawing = new Drawing(crop ?? { left: 0.15, top: 0.15, width: 0.7, height: 0.7 });
	at("crop-image").onload = ({ target }) => {
		at("crop-stage").style.width = `min(100%, ${(HEIGHT * target.naturalWidth) / target.naturalHeight}dvh)`;
	};
	at("crop-image").src = address;
	dialog.returnValue = "";
	dialog.showModal();
	at("crop-box").focus();
	return new Promise((resolve) => {
		const end = () => {
			drawing.stop();
			resolve(dialog.returnValue === "search" ? drawing.crop : null);
		};
		dialog.addEventListener("close", end, { once: true });
	});
}

class Drawing {
	constructor(crop) {
		this.listening = new AbortController();
		const listen = (node, kind, run) => node.addEventListener(kind, run, { signal: this.listening.signal });
		listen(at("crop-stage"), "pointerdown", (event) => this.begin(event));
		listen(at("crop-stage"), "pointermove", (event) => this.drag(event));
		listen(at("crop-stage"), "pointerup", () => this.release());
		listen(at("crop-stage"), "pointercancel", () => this.release());
		listen(at("crop-box"), "keydown", (event) => this.press(event));
		this.show(within(crop));
	}

	stop() {
		this.listening.abort();
	}

	show(crop) {
		this.crop = crop;
		for (const [side, share] of Object.entries(crop)) at("crop-box").style[side] = `${100 * share}%`;
		const per = Object.fromEntries(Object.entries(crop).map(([side, share]) => [side, Math.round(100 * share)]));
		at("crop-words").textContent = `${per.width} × ${per.height} %, ${per.left} % from the left, ${per.top} % from the top`;
	}

	place(event) {
		const stage = at("crop-stage").getBoundingClientRect();
		return {
			x: between(0, (event.clientX - stage.left) / stage.width, 1),
			y: between(0, (event.clientY - stage.top) / stage.height, 1),
		};
	}

	begin(event) {
		if (event.button > 0) return;
		const { x, y } = this.place(event);
		const corner = event.target.dataset.corner;
		const { left, top, width, height } = this.crop;
		at("crop-stage").setPointerCapture(event.pointerId);
		event.preventDefault();
		at("crop-box").focus();
		if (corner) this.anchor = { x: corner.includes("w") ? left + width : left, y: corner.includes("n") ? top + height : top };
		else if (event.target === at("crop-box")) this.grip = { x: x - left, y: y - top };
		else this.anchor = { x, y };
	}

	drag(event) {
		const { x, y } = this.place(event);
		if (this.grip) this.show(within({ ...this.crop, left: x - this.grip.x, top: y - this.grip.y }));
		if (!this.anchor) return;
		const [left, top] = [Math.min(x, this.anchor.x), Math.min(y, this.anchor.y)];
		this.show(within({ left, top, width: Math.abs(x - this.anchor.x), height: Math.abs(y - this.anchor.y) }));
	}

	release() {
		this.anchor = this.grip = null;
	}

	press(event) {
		const across = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key] ?? 0;
		const down = { ArrowUp: -STEP, ArrowDown: STEP }[event.key] ?? 0;
		if (!across && !down && event.key !== "Enter") return;
		// Else Enter presses the button that has the focus next.
		event.preventDefault();
		if (event.key === "Enter") return at("crop").close("search");
		const { left, top, width, height } = this.crop;
		if (event.shiftKey) {
			const grown = { width: Math.min(width + across, 1 - left), height: Math.min(height + down, 1 - top) };
			this.show(within({ ...this.crop, ...grown }));
		} else this.show(within({ ...this.crop, left: left + across, top: top + down }));
		announce(at("crop-words").textContent);
	}
}
