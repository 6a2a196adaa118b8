// "Try with sample images": trains on images that come with the service, and shows the job.

import { button, h, replace } from "../lib/dom.js";
import { newKey } from "../lib/ids.js";
import { pressed } from "../lib/problem.js";
import { call, requestJson, upload } from "../lib/service/http.js";
import { count } from "../lib/words.js";

const LABEL = "Try with sample images";
let keyOf = newKey();

/** Create the button. It is absent if the service has no samples. */
export function sampleButton(signal) {
	const element = h("div", { class: "sample" });
	const trouble = h("div", {});

	async function begin(sample, start) {
		start.textContent = "Starting …";
		await pressed(start, trouble, async () => {
			const job = await trainOn(sample, signal);
			location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
		});
		start.textContent = LABEL;
	}

	async function load() {
		const { data } = await requestJson("/samples", { signal });
		const sample = data.find((entry) => entry.default) ?? data[0];
		if (!sample) return;
		const start = button(LABEL, () => begin(sample, start), "main");
		const content = `${sample.title}: ${count(sample.images, "image")} in ${count(sample.classes.length, "class", "classes")}. ${sample.credit} Licence: ${sample.license}.`;
		replace(element, h("p", {}, "No images at hand?"), start, h("p", { class: "soft" }, content), trouble);
	}
	load().catch(() => {}); // the view works without samples
	return element;
}

async function trainOn(sample, signal) {
	const archive = await (await call(`/samples/${encodeURIComponent(sample.name)}.zip`, { signal })).blob();
	const form = new FormData();
	form.append("archive", archive, `${sample.name}.zip`);
	form.append("name", sample.title);
	const send = () => upload("/adapt", form, { headers: { "Idempotency-Key": keyOf(sample.name) }, signal });
	try {
		return await send(); // a second click returns the same job
	} catch (error) {
		if (error.code !== "idempotent_job_deleted") throw error;
		keyOf = newKey();
		return send();
	}
}
