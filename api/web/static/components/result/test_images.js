// Test images of a job that the service is asked for: by the instant preview, and with a class that was never trained.

import { classify } from "../../lib/classify.js";
import { button, h, replace } from "../../lib/dom.js";
import { pressed } from "../../lib/problem.js";
import { patiently } from "../../lib/service/patiently.js";
import { imageBlob, listImages, spread } from "../../lib/training/job_images.js";
import { count, percent, roughPercent } from "../../lib/words.js";

const MAX_IMAGES = 6;
const MAX_NEW = 4; // images of the class that was never trained
const SIDE = 512; // pixels
export const EARLY = "Instant preview from your images, before training. The trained model is usually better.";

/** Add stored images to the list, each with a place for its answer. Returns them as images to classify.
 *
 *  @param {Job} job @param {StoredImage[]} images @param {HTMLElement} rows @param {AbortSignal} signal */
function shownIn(rows, job, images, signal) {
	return Promise.all(
		images.map(async ({ position, file_name, class_name: truth }) => {
			const blob = await imageBlob(job.id, position, SIDE, signal);
			const url = URL.createObjectURL(blob);
			signal.addEventListener("abort", () => URL.revokeObjectURL(url));
			const name = file_name ?? "Image";
			const answer = h("div", {});
			rows.append(h("li", {}, h("img", { class: "stored", src: url, alt: `${name}, labelled ${truth}` }), answer));
			return { name, file: new File([blob], name, { type: blob.type }), truth, answer };
		}),
	);
}

/** @param {Job} job */
const trainedClasses = (job) => job.classes.filter((entry) => entry.images).map((entry) => entry.name);

/** Create the strip of the instant preview, shown while the model trains; it stays hidden for a job without test images.
 *
 *  @param {Job} job @param {AbortSignal} signal */
export function roughPreview(job, signal) {
	const rows = h("ul", { class: "strip rough" });
	const element = h(
		"div",
		{ class: "card", hidden: true },
		h("div", { class: "headline" }, h("h2", {}, "Test images"), h("span", { class: "tag rough-tag" }, "preview")),
		h("p", { class: "soft" }, EARLY),
		rows,
	);

	async function load() {
		const names = trainedClasses(job);
		const images = await listImages(job.id, signal);
		const tests = images.filter(({ split, class_name }) => split === "test" && names.includes(class_name));
		if (!tests.length) return;
		const shown = await shownIn(rows, job, spread(tests, MAX_IMAGES), signal);
		element.hidden = false;
		const { results } = await patiently(() => classify(shown, { model: job.id, class_names: names }, signal), signal);
		shown.forEach(({ answer, truth }, i) => {
			const best = results[i].predictions?.[0];
			if (!best) return;
			const share = roughPercent(best.probability);
			const bar = h("span", { class: "fill striped", style: { width: share } });
			replace(
				answer,
				h("p", {}, judgedName(best, truth), " ", h("span", { class: "share" }, share)),
				h("span", { class: "track", "aria-hidden": "true" }, bar),
			);
		});
	}
	load().catch(() => {}); // optional: the progress is shown in any case
	return element;
}

/** Create the last step of a job with test images of an untrained class: the model is asked for it. Null without one.
 *
 *  @param {Job & { model_id: string }} job @param {AbortSignal} signal */
export function newClass(job, signal) {
	const name = job.classes.find((entry) => !entry.images && entry.test_images)?.name;
	if (!name) return null;
	const rows = h("ul", { class: "strip", "aria-label": `Images of ${name}` });
	const outcome = h("p", { role: "status" });
	const add = button(`+ ${name}`, ask, "main");
	const element = h(
		"div",
		{ class: "card new-class", hidden: true },
		h("h2", {}, "Now a class that was never trained"),
		h("p", {}, `The model has seen no image of ${name}. Add the name, and ask again.`),
		rows,
		h("div", { class: "row" }, add, outcome),
	);
	/** @type {Awaited<ReturnType<typeof shownIn>>} */
	let shown = [];

	async function load() {
		const images = await listImages(job.id, signal);
		const tests = images.filter(({ split, class_name }) => split === "test" && class_name === name);
		shown = await shownIn(rows, job, tests.slice(0, MAX_NEW), signal);
		element.hidden = !shown.length;
		await show(trainedClasses(job));
	}
	/** Classify the images among these names. Returns the number of images with the new name. @param {string[]} names */
	async function show(names) {
		const { results } = await classify(shown, { model: job.model_id, class_names: names }, signal);
		const best = results.map(({ predictions }) => predictions?.[0]);
		shown.forEach(({ answer, truth }, i) => {
			const first = best[i];
			replace(answer, first && h("p", {}, judgedName(first, truth), ` ${percent(first.probability)}`));
		});
		return best.filter((prediction) => prediction?.class_name === name).length;
	}
	function ask() {
		return pressed(add, outcome, async () => {
			const right = await show([...trainedClasses(job), name ?? ""]);
			outcome.textContent = `${right} of ${count(shown.length, "image")} recognised by the name alone.`;
		});
	}
	load().catch(() => {}); // optional: the images may have been deleted
	return element;
}

/** @param {Prediction} prediction @param {string} truth */
const judgedName = ({ class_name: name }, truth) => h("span", { class: name === truth ? "right" : "wrong" }, name);
