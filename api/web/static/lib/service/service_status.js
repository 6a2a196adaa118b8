// State of the service, polled while the page is visible.

import { percent } from "../words.js";
import { authorization } from "./http.js";

const POLL_MS = 10_000;
const RETRY_MS = 2_000;

/** Call `show(words, state)` after each poll. `words` is empty while all is well, and `state` null without a response. */
export function watchService(show) {
	let timer = 0;
	async function poll() {
		let words = "";
		let state = null;
		try {
			const response = await fetch("/readyz", { headers: authorization() }); // with a key of the operator, it has reasons
			state = await response.json();
			if (!response.ok)
				words = state.preparing ? preparation(state.preparing) : reason(state.parts) || "The service is starting.";
			else if (state.status === "degraded")
				words = "Part of the service is unavailable, so new jobs wait or fail. See the log of the service.";
		} catch {
			words = "Can't reach the service. This page reconnects by itself; nothing is lost.";
		}
		show(words, state);
		clearTimeout(timer);
		if (!document.hidden) timer = setTimeout(poll, words ? RETRY_MS : POLL_MS);
	}
	document.addEventListener("visibilitychange", () => {
		clearTimeout(timer);
		if (!document.hidden) poll();
	});
	poll();
}

/** Return why a part is unavailable, as far as the key may know. */
function reason(parts) {
	return Object.values(parts ?? {}).find(({ status }) => status === "unavailable")?.reason ?? "";
}

function preparation({ what, done_bytes: done, total_bytes: total }) {
	return `Preparing the model. ${what}${total ? `: ${percent(done / total)}` : " …"}`;
}
