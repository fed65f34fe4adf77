// A key for those searches that ask for one; the service turns it into a cookie that no script can read.
import { post, remove } from "./api.js";
import { at } from "./dom.js";
import { picture } from "./tile.js";

let asking = null;

/** Ask for the key; resolve to whether it was accepted. Whoever asks meanwhile gets the same answer. */
export function logIn() {
	asking ??= ask().finally(() => { asking = null; });
	return asking;
}

function ask() {
	const [dialog, form, field] = [at("login"), at("login-form"), at("login-key")];
	at("login-wrong").hidden = true;
	dialog.showModal();
	return new Promise((resolve) => {
		let accepted = false;
		form.onsubmit = async (event) => {
			event.preventDefault();
			accepted = await tried(field.value);
			if (accepted) dialog.close();
			else field.select();
		};
		dialog.addEventListener("close", () => { field.value = ""; resolve(accepted); }, { once: true });
	});
}

async function tried(key) {
	try {
		const session = await post("/v1/session", { key });
		at("log-out").hidden = false;
		for (const none of document.querySelectorAll(".none[data-src]")) none.replaceWith(picture(none.dataset.src));
		return session.read;
	} catch (problem) {
		at("login-wrong").textContent = problem.code === "LoginNeeded" ? "This key is not accepted." : problem.detail;
		at("login-wrong").hidden = false;
		return false;
	}
}

/** Show the way out to those who came in by a key. */
export function offerLogOut(session) {
	at("log-out").hidden = !(session.read && session.read_key);
	at("log-out").addEventListener("click", async () => {
		await remove("/v1/session");
		location.assign("/");
	});
}
