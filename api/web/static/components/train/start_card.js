// Card that starts the training, or says why it can't start yet. It stays visible below any number of images.

import { announce, button, h, newId, replace } from "../../lib/dom.js";
import { problemBox } from "../../lib/problem.js";
import { draft } from "../../lib/training/training_draft.js";
import { count, size } from "../../lib/words.js";

/** Create the card. `stopCheck` ends the check of the images, and `showFault` shows an image that can't be read.
 *
 *  @param {{ stopCheck: () => void, showFault: () => void, signal: AbortSignal }} options */
export function startCard({ stopCheck, showFault, signal }) {
	const { shots } = draft;
	const trouble = h("div", {});
	const status = h("p", { class: "soft", id: newId("status") });
	const start = button("Start training", begin, "main big");
	start.setAttribute("aria-describedby", status.id);
	const show = button("Show", showFault, "quiet small");
	const faults = h("div", { class: "row", hidden: true }, show, button("Leave them out", leaveOut, "quiet small"));
	const bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Upload progress" });
	const element = h("div", { class: "card go begin" }, trouble, start, status, faults, bar);
	/** @type {typeof draft.failure} */
	let shownFailure = null;

	async function begin() {
		stopCheck();
		clear();
		const job = await draft.send();
		if (!job) return;
		if (signal.aborted) announce("Training job submitted.");
		else location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
	}
	function leaveOut() {
		shots.clear(shots.bad);
		requestAnimationFrame(() => start.focus()); // after it was drawn, no longer disabled
	}
	/** Remove the error of the last upload. */
	function clear() {
		replace(trouble);
	}
	function refresh() {
		const { sent, failure } = draft;
		const isSending = sent !== null;
		start.disabled = isSending || Boolean(shots.missing);
		start.setAttribute("aria-busy", String(isSending));
		faults.hidden = isSending || !shots.bad.length;
		bar.hidden = !isSending;
		bar.value = sent ?? 0;
		const classes = count(shots.trained.length, "class", "classes");
		status.textContent = isSending
			? sent < 1
				? "Uploading images …"
				: "Checking images …"
			: shots.missing || `${count(shots.images.length, "image")} in ${classes}, ${size(shots.bytes)}.`;
		if (failure === shownFailure) return; // drawn again, an alert would be read again
		shownFailure = failure;
		if (failure) replace(trouble, problemBox(failure.error, failure.details));
	}
	draft.addEventListener("progress", refresh, { signal });
	return { element, refresh, clear };
}
