// What the Try view keeps while other views are shown: images, class names, model and strength.

import { forget, inspect } from "./training/image_check.js";
import { imageBlob, listImages, spread } from "./training/job_images.js";

export const MAX_IMAGES = 16; // each change classifies all images again
const HELD_OUT_IMAGES = 6;
const SIDE = 512; // pixels of a test image from the service: more than the input size of any model

/** @typedef {PageImage & { truth?: string | null, heldOut?: string, sendable?: Promise<Blob> }} TriedImage */

class Tried {
	/** @type {TriedImage[]} */
	images = [];
	/** @type {ClassName[]} */
	names = [];
	/** Id of the chosen model. @type {string | null} */
	model = null;
	/** Model whose classes are among the names. @type {ChoosableModel | null} */
	shownModel = null;
	/** @type {number | null} */
	alpha = null;
	/** Last results of the pre-trained model. @type {{ text: string, images: TriedImage[], results: Schemas["ImageResult"][] } | null} */
	stock = null;

	/** Keep these images, and forget the others. @param {TriedImage[]} images */
	keep(images) {
		for (const image of this.images) if (!images.includes(image)) forget(image);
		this.images = images;
	}

	/** Add as many images as there is room for, instead of test images. Returns their number. @param {{ file: File, name: string }[]} files */
	async add(files) {
		const own = this.images.filter((image) => !image.heldOut);
		const added = files.slice(0, MAX_IMAGES - own.length).map(({ file, name }) => ({ file, name, problem: null }));
		if (added.length) this.keep([...own, ...added]);
		await Promise.all(added.map(inspect));
		return added.length;
	}

	/** Load test images of a job, which has these classes, while `isOpen` and unless a person has added images. Returns whether
	 *  they are there.
	 *
	 *  @param {string} jobId @param {string[]} trained @param {() => boolean} isOpen @param {AbortSignal} signal */
	async loadHeldOut(jobId, trained, isOpen, signal) {
		const hasRoom = () => isOpen() && this.images.every((image) => image.heldOut && image.heldOut !== jobId);
		if (!hasRoom()) return false;
		const tests = (await listImages(jobId, signal)).filter(
			({ split, class_name: name }) => split === "test" && trained.includes(name),
		);
		const loaded = await Promise.all(
			spread(tests, HELD_OUT_IMAGES).map(async ({ position, class_name: truth, file_name: name }) => {
				const blob = await imageBlob(jobId, position, SIDE, signal);
				const file = new File([blob], name ?? "", { type: "image/jpeg" });
				return { file, name: file.name, truth, heldOut: jobId, problem: null };
			}),
		);
		if (!loaded.length || !hasRoom()) return false;
		this.keep(loaded.map((image) => ({ ...image, url: URL.createObjectURL(image.file) })));
		return true;
	}
}

export const tried = new Tried();
