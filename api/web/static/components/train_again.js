// "Train again with 3 corrections": asks, with the time that it takes, and trains the next version of a model.
// `agrees` asks for other buttons, too.

import { button, confirmed } from "../lib/dom.js";
import { newKey } from "../lib/ids.js";
import { upload } from "../lib/service/http.js";
import { count, duration } from "../lib/words.js";

/** @typedef {{ file: File, name: string, className: string }} Labelled */

/** Create the button, hidden without images. `refresh` counts the images again.
 *
 *  @param {{ model: () => string, images: () => Labelled[], what?: string, note?: string, started?: () => void,
 *            failed: (error: any) => void, signal: AbortSignal }} options  `what` is the word for an image, and `note`
 *      a sentence of the question. `started` is called once the job is submitted. */
export function trainAgainButton({ model, images, what = "correction", note = "", started, failed, signal }) {
	const element = button("", begin, "main");
	const key = newKey();
	const words = () => `Train again with ${count(images().length, what)}`;

	function refresh() {
		element.hidden = !images().length;
		element.textContent = words();
	}
	async function begin() {
		const form = new FormData();
		const sent = images();
		for (const { file, name, className } of sent) {
			form.append("images", file, name);
			form.append("labels", className);
		}
		const path = /** @type {const} */ (`/models/${encodeURIComponent(model())}/extend`);
		element.disabled = true;
		try {
			if (!(await agrees(words(), upload(`${path}?dry_run=true`, form, { signal }), signal, note))) return;
			const same = sent.map(({ file, name, className }) => [name, file.size, file.lastModified, className]);
			const headers = { "Idempotency-Key": key([model(), same]) };
			const job = await upload(path, form, { headers, signal });
			started?.();
			location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
		} catch (error) {
			if (error.name !== "AbortError") failed(error);
		} finally {
			element.disabled = false;
		}
	}
	refresh();
	return { element, refresh };
}

/** Ask whether to train again, with the time that the service estimates.
 *
 *  @param {string} words @param {Promise<Schemas["Preflight"]>} preflight  of the training
 *  @param {AbortSignal} signal @param {string} [note]  sentence at the end of the question */
export async function agrees(words, preflight, signal, note = "") {
	const { estimate } = await preflight;
	const time = estimate.seconds ? ` It takes about ${duration(estimate.seconds)}.` : "";
	const question = `${words}?${time} The new version learns from all photos so far, and this one stays.${note}`;
	return confirmed(question, "Train again", signal, "main");
}
