// Preflight by the service: POST /adapt?dry_run=true.

import { debounce, h, replace } from "../lib/dom.js";
import { upload } from "../lib/service/http.js";
import { draft } from "../lib/training/training_draft.js";
import { count, duration, durationRange } from "../lib/words.js";

const MAX_BYTES = 200_000_000; // larger uploads are sent only once, without a preflight

let running = { controller: new AbortController(), fingerprint: "" };

/** Create the summary of the check. `check` checks the images soon, and `stop` stops that. @param {AbortSignal} signal */
export function imageFindings(signal) {
	const { shots, settings } = draft;
	const element = h("div", { class: "check" });
	const check = debounce(1200, () => draft.sent === null && checkWithService(shots, draft.config(), element, signal));
	let seen = "";
	/** Check again only after an image was added, removed or hashed, or for another base model, since each check uploads
	 *  all images. */
	function imagesChanged() {
		const now = JSON.stringify([settings.backbone, shots.images.map(({ id, hash }) => [id, hash])]);
		if (now === seen) return;
		seen = now;
		check();
	}
	function stop() {
		check.cancel();
		running.controller.abort();
	}
	return { element, check, imagesChanged, stop };
}

/** Check all images, mark each with its finding, and show a summary in `box`. */
async function checkWithService(shots, config, box, leaving) {
	const fingerprint = shots.fingerprint(config);
	if (running.fingerprint === fingerprint && !running.controller.signal.aborted) return;
	running.controller.abort();
	const own = { controller: new AbortController(), fingerprint };
	running = own;
	const signal = AbortSignal.any([own.controller.signal, leaving]);
	replace(box);
	try {
		if (shots.checked?.fingerprint === fingerprint) return replace(box, summary(shots.checked.preflight));
		if (shots.missing || shots.bytes > MAX_BYTES) return;
		const { form, files } = shots.form({ config });
		replace(box, h("p", { class: "soft" }, "Checking images …"));
		const preflight = await upload("/adapt?dry_run=true", form, { signal });
		shots.checked = { fingerprint, preflight };
		shots.mark(preflight.findings, files, (finding) => (finding.class_name === null ? "bad" : "note"));
		replace(box, summary(preflight));
	} catch (error) {
		if (error.name === "AbortError") {
			if (running === own) replace(box);
			return;
		}
		if (error.errors?.length) replace(box, h("p", { class: "soft" }, error.message));
		else replace(box); // Start reports the same error
	} finally {
		own.controller.abort(); // finished: the same form may be checked again
	}
}

function summary({ images, good, warnings, estimate }) {
	const { seconds, low_seconds: low, high_seconds: high } = estimate;
	const time =
		seconds === null ? "" : ` It takes about ${high > 1.5 * low ? durationRange(low, high) : duration(seconds)}.`;
	const words = `${good === images ? "All" : `${good} of`} ${count(images, "image")} look good.`;
	const items = warnings.map((warning) => h("li", {}, warning.detail));
	return [h("p", {}, h("strong", {}, words), time), items.length > 0 && h("ul", { class: "soft" }, items)];
}
