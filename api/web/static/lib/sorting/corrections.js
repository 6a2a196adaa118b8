// Corrections: images with their right class, kept with the model.

import { newKey } from "../ids.js";
import { call, requestJson, upload } from "../service/http.js";
import { listImages } from "../training/job_images.js";
import { found, hashed } from "./remembered.js";

/** @import { Sorting } from "./sorting.js" */

const PART = 32; // images per request
/** @param {string} model @returns {`/models/${string}`} */
const path = (model) => `/models/${encodeURIComponent(model)}`;
let keyOf = newKey();

/** Find the images that were corrected earlier, or that have trained the model, and set their labels. The images of a
 *  version contain the corrections of the versions before. Returns their number.
 *
 *  @param {Sorting} sorting @param {string} job @param {AbortSignal} signal */
export async function recall(sorting, job, signal) {
	const model = sorting.model;
	if (!model) return 0;
	const [{ data: corrections }, trained] = await Promise.all([
		requestJson(`${path(model)}/feedback`, { signal }),
		listImages(job, signal).catch((error) => {
			if (error.status !== 404) throw error;
			return []; // the job was deleted
		}),
	]);
	const entries = trained
		.filter(({ split }) => split === "train")
		.map((entry) => ({ ...entry, id: null, learned: true }));
	/** @type {Map<string, { bytes: number, id: string | null, class_name: string, learned?: boolean }>} */
	const known = new Map();
	for (const entry of [...entries, ...corrections]) known.set(entry.sha256, entry); // a correction replaces the label
	const images = await found(
		sorting.images.filter(({ label, held }) => !label && !held),
		known,
		signal,
	);
	if (sorting.model !== model || signal.aborted) return 0;
	for (const [image, { id, class_name, learned }] of images) {
		if (image.label) continue;
		image.label = sorting.spelled(class_name);
		image.saved = { model, id, class_name: image.label, learned };
	}
	if (images.size) sorting.changed();
	return images.size;
}

/** Store the labels with the model, and remove those that were taken back.
 *
 *  @param {Sorting} sorting @param {AbortSignal} signal */
export async function save(sorting, signal) {
	const { model, unsaved } = sorting;
	if (!model) return;
	/** @param {SortedImage} image */
	const isKept = ({ label }) => typeof label === "string";
	for (const image of unsaved.filter((image) => !isKept(image))) {
		if (image.saved?.id)
			await call(`${path(model)}/feedback/${encodeURIComponent(image.saved.id)}`, { method: "DELETE", signal });
		image.saved = null;
	}
	/** @type {[SortedImage, Label][]} */
	const open = unsaved.filter(isKept).map((image) => [image, image.label]); // it may change during the upload
	while (open.length) {
		const part = open.splice(0, PART);
		const form = new FormData();
		for (const [{ file, name }] of part) form.append("images", file, name);
		for (const [, label] of part) form.append("labels", String(label));
		const { data } = await upload(`${path(model)}/feedback`, form, { signal });
		for (const [image, label] of part) {
			await hashed(image);
			const stored = data.find(({ sha256 }) => sha256 === image.hash); // none without a hash: then a label can only be replaced
			image.saved = { model, id: stored?.id ?? null, class_name: label };
		}
	}
	sorting.changed();
}

/** Train again from the model's images and its corrections, such as these labels [[image, label]]. Returns the job.
 *
 *  @param {Sorting} sorting @param {string} model @param {[SortedImage, Label][]} labels @param {AbortSignal} signal */
export function trainAgain(sorting, model, labels, signal) {
	const content = [model, sorting.training?.id, labels.map(([{ saved }, label]) => [saved?.id, label])];
	return start(`${path(model)}/extend`, new FormData(), content, { signal });
}

/** Train a model with the labelled images. Returns the job.
 *
 *  @param {Sorting} sorting @param {(fraction: number) => void} onprogress @param {AbortSignal} signal */
export function trainFirst(sorting, onprogress, signal) {
	const form = new FormData();
	for (const { file, name, label } of sorting.lessons) {
		form.append("images", file, name);
		form.append("labels", String(label));
	}
	const content = [
		sorting.training?.id,
		sorting.lessons.map(({ path, file, label }) => [path, file.size, file.lastModified, label]),
	];
	return start("/adapt", form, content, { onprogress, signal });
}

/** Start a training. For the same content it returns the same job, unless that was deleted.
 *
 *  @param {"/adapt" | `/models/${string}/extend`} path @param {FormData} form @param {unknown} content
 *  @param {Parameters<typeof upload>[2]} options */
async function start(path, form, content, options) {
	const send = () => upload(path, form, { ...options, headers: { "Idempotency-Key": keyOf(content) } });
	try {
		return await send();
	} catch (error) {
		if (error.code !== "idempotent_job_deleted") throw error;
		keyOf = newKey();
		return send();
	}
}

/** Note that the model was trained with the labels of this training, and with those that the version before had learned.
 *
 *  @param {Sorting} sorting @param {NonNullable<Sorting["training"]>} training @param {string} model */
export function learned({ images }, { before, labels }, model) {
	for (const image of images)
		if (image.saved?.learned && image.saved.model === before.id) image.saved = { ...image.saved, model };
	for (const [image, label] of labels) image.saved = { model, id: null, class_name: label, learned: true };
}
