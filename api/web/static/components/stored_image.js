// Image of a job, loaded from the service.

import { h } from "../lib/dom.js";
import { imageBlob } from "../lib/training/job_images.js";
import { whenSeen } from "./when_seen.js";

/** Create an image element that loads once it comes into view. An image that is gone keeps its alternative text.
 *
 *  @param {string} jobId @param {number} position @param {{ alt: string, side?: number, signal: AbortSignal }} options */
export function storedImage(jobId, position, { alt, side = 320, signal }) {
	const image = h("img", { class: "stored", alt, width: "160", height: "160" });
	whenSeen(image, async () => {
		try {
			const url = URL.createObjectURL(await imageBlob(jobId, position, side, signal));
			image.onload = () => {
				URL.revokeObjectURL(url);
				image.classList.add("loaded");
			};
			image.src = url;
		} catch {
			image.classList.add("missing");
		}
	});
	return image;
}
