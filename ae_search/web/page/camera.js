// A picture from the camera: live where the browser allows it, else through the phone's own camera.
import { at } from "./dom.js";

const JPEG_QUALITY = 0.95;

/** Let the user take a picture; resolve to a file, or to null. */
export async function takePicture() {
	let stream;
	try {
		// Not there at all where the page came over plain HTTP from another machine.
		stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
	} catch {
		at("capture").click();
		return null;
	}
	try {
		return await shoot(stream);
	} finally {
		stream.getTracks().forEach((track) => track.stop());
	}
}

async function shoot(stream) {
	const [dialog, video] = [at("camera"), at("camera-video")];
	video.srcObject = stream;
	dialog.returnValue = "";
	dialog.showModal();
	const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
	video.play().catch(() => {});
	await closed;
	const picture = dialog.returnValue === "take" && video.videoWidth ? await still(video) : null;
	video.srcObject = null;
	return picture;
}

function still(video) {
	const canvas = document.createElement("canvas");
	[canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
	canvas.getContext("2d").drawImage(video, 0, 0);
	return new Promise((resolve) => {
		canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY);
	});
}
