// Images that the service stores.

import { h } from "../lib/dom.js";
import { call } from "../lib/service/http.js";
import { imageBlob } from "../lib/training/job_images.js";
import { whenSeen } from "./when_seen.js";

/** @import { OpenPile } from "../lib/sorting/pile.js" */

/** Create an image element that loads once it comes into view. An image that is gone keeps its alternative text.
 *
 *  @param {string} jobId @param {number} position @param {{ alt: string, side?: number, signal: AbortSignal }} options */
export function storedImage(jobId, position, { alt, side = 320, signal }) {
	const image = h("img", { class: "stored", alt, width: "160", height: "160" });
	whenSeen(image, async () => {
		const isShown = await show(image, () => imageBlob(jobId, position, side, signal));
		image.classList.add(isShown ? "loaded" : "missing");
	});
	return image;
}

/** Show the photo of a pile: the service's copy, or the file if it keeps none. Returns whether it is shown.
 *
 *  @param {HTMLImageElement} image @param {OpenPile} pile @param {number} position */
export function showPhoto(image, pile, position) {
	const original = pile.originals.get(position);
	return show(image, async () =>
		pile.state?.keeps_images === false && original
			? original
			: (await call(`${pile.path}/images/${position}/file`)).blob(),
	);
}

/** @param {HTMLImageElement} image @param {() => Promise<Blob>} load */
async function show(image, load) {
	try {
		const url = URL.createObjectURL(await load());
		image.src = url;
		await image.decode().finally(() => URL.revokeObjectURL(url));
		return true;
	} catch {
		return false;
	}
}
