// Answers for many images: in parts, then once more as a collection.

import { askRejecting, classify } from "../classify.js";
import { GONE, requestJson, Unreadable } from "../service/http.js";

/** @import { PartialAnswer } from "./sorting.js" */

const PART = 32; // images per request
const IN_FLIGHT = 2;
const TOP_K = 3;

/** Classify the images in parts. `take` gets the images of a part and their answer. An image
 *  that can no longer be read gets an error. Throws the first error of a request.
 *
 *  @param {SortedImage[]} images @param {Options} options
 *  @param {(part: SortedImage[], answer: PartialAnswer) => unknown} take @param {AbortSignal} signal */
export async function askInParts(images, options, take, signal) {
	const waiting = [...images];
	const failed = new AbortController();
	const either = AbortSignal.any([failed.signal, signal]);
	async function run() {
		while (waiting.length) {
			const part = waiting.splice(0, PART);
			// Not the images themselves: these would keep the smaller copies that are sent.
			const sent = part.map(({ file, name }) => ({ file, name }));
			try {
				take(part, await answerTo(sent, { ...options, top_k: TOP_K, features: true }, either));
			} catch (error) {
				if (!(error instanceof Unreadable)) throw error;
				const gone = error.places.map((i) => part[i]);
				take(gone, { results: gone.map(() => ({ predictions: null, error: { code: "", detail: GONE } })) });
				waiting.push(...part.filter((image) => !gone.includes(image)));
			}
		}
	}
	try {
		await Promise.all(Array.from({ length: IN_FLIGHT }, run));
	} finally {
		failed.abort();
	}
}

/** Return the answer. A request without any readable image is refused, with an error per image.
 *
 *  @param {PageImage[]} images @param {Options & { top_k: number, features: boolean }} options @param {AbortSignal} signal
 *  @returns {Promise<PartialAnswer>} */
async function answerTo(images, options, signal) {
	try {
		return await classify(images, options, signal);
	} catch (error) {
		if (error.code !== "bad_images" || error.errors.length !== images.length) throw error;
		/** @type {Schemas["ProblemItem"][]} */
		const errors = error.errors;
		return { results: errors.map(({ code, detail }) => ({ predictions: null, error: { code: code ?? "", detail } })) };
	}
}

/** Classify or group images by the features of their first answers. No image is uploaded.
 *
 *  @param {SortedImage[]} images @param {{ reject?: boolean } & object} options @param {AbortSignal} signal */
export function askTogether(images, { reject = false, ...options }, signal) {
	const features = images.map((image) => image.features);
	return askRejecting(
		(more) =>
			requestJson("/classify/collection", {
				method: "POST",
				json: { ...options, ...more, top_k: TOP_K, features },
				signal,
			}),
		reject,
	);
}
