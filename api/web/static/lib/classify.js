// Classification requests.

import { requestJson } from "./service/http.js";
import { downscale } from "./training/image_check.js";

const MAX_UNSCALED_BYTES = 600_000;
const MAX_SIDE = 1024; // pixels: more than the input size of any model

/** Send POST /classify with these images and options.
 *
 *  @param {(PageImage & { sendable?: Promise<Blob> })[]} images
 *  @param {Options & { top_k?: number, something_else?: boolean }} options @param {AbortSignal} signal */
export async function classify(images, options, signal) {
	const form = new FormData();
	for (const [name, value] of Object.entries(options)) {
		form.append(name, name === "class_names" ? JSON.stringify(value) : String(value));
	}
	for (const image of images) form.append("images", await sendable(image), image.name);
	return requestJson("/classify", { method: "POST", body: form, signal });
}

/** Ask the service to mark images that belong to no class. Imported networks have no training images to compare with, so
 *  the answer then comes without marks.
 *
 *  @template T @param {(options: { something_else?: boolean }) => Promise<T>} ask @param {boolean} hasImages whether the model may have training images */
export async function askSomethingElse(ask, hasImages) {
	if (!hasImages) return ask({});
	try {
		return await ask({ something_else: true });
	} catch (error) {
		if (error.code !== "no_training_images") throw error;
		return ask({});
	}
}

/** Return the file, or a smaller copy of a large photo: each move of the slider uploads all images again. */
function sendable(image) {
	image.sendable ??= image.file.size > MAX_UNSCALED_BYTES ? downscaleFile(image.file) : Promise.resolve(image.file);
	return image.sendable;
}

async function downscaleFile(file) {
	let bitmap;
	try {
		bitmap = await createImageBitmap(file);
	} catch {
		return file; // the service may read formats that this browser can't
	}
	const copy = await downscale(bitmap, MAX_SIDE, "image/jpeg", 0.92);
	bitmap.close();
	return copy;
}
