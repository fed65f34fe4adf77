// The ways by which an image comes in: dropped, chosen, pasted, taken.
import { takePicture } from "./camera.js";
import { at } from "./dom.js";

const isImage = (item) => item.kind === "file" && (item.type.startsWith("image/") || !item.type);

/** Call `onImage` with each file that the user brings, and `onNone` where what was brought is no image. */
export function takeImages(onImage, onNone) {
	listenToDrops(onImage, onNone);
	addEventListener("paste", (event) => {
		const items = [...(event.clipboardData?.items ?? [])];
		const typing = event.target.closest?.("input, textarea");
		// Spreadsheets copy a cell as text and as its picture.
		if (typing && items.some(({ type }) => type === "text/plain")) return;
		const file = items.find(isImage)?.getAsFile();
		// Browsers give this name to what has none.
		if (file) onImage(file.name === "image.png" ? file.slice(0, file.size, file.type) : file);
		else if (!typing) onNone("There is no image on the clipboard.");
	});
	for (const input of [at("file"), at("capture")]) {
		input.addEventListener("change", () => {
			const [file] = input.files;
			input.value = "";
			if (file) onImage(file);
		});
	}
	document.addEventListener("click", async (event) => {
		const action = event.target.closest?.("[data-take]")?.dataset.take;
		if (action === "file") at("file").click();
		if (action !== "camera") return;
		const picture = await takePicture();
		if (picture) onImage(picture);
	});
}

function listenToDrops(onImage, onNone) {
	let depth = 0;
	const mark = (change) => {
		depth = Math.max(0, depth + change);
		document.body.classList.toggle("dropping", depth > 0);
	};
	const carries = (event, kind) => [...(event.dataTransfer?.types ?? [])].includes(kind);
	const isOurs = (event) => carries(event, "Files") || carries(event, "text/uri-list");
	addEventListener("dragenter", (event) => isOurs(event) && mark(1));
	addEventListener("dragleave", (event) => isOurs(event) && mark(-1));
	addEventListener("dragover", (event) => isOurs(event) && event.preventDefault());
	addEventListener("drop", (event) => {
		mark(-depth);
		if (!isOurs(event)) return;
		event.preventDefault();
		const [file] = event.dataTransfer.files;
		if (file) onImage(file);
		else onNone("Addresses are not opened. Save the image, and drop the file.");
	});
}
