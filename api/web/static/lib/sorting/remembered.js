// What this browser remembers of images, by the hash of the file: which were skipped, and the labels of a check.

import { hashOf } from "../training/image_check.js";
import { NONE } from "./groups.js";

const STORED = "clipcite-sort";

/** `held` is the size of the pile of a check, and `names` its class names.
 *
 *  @typedef {{ bytes: number, skipped: boolean, held: number, names?: string[], label: { name: string | null } | null }} Remembered */

/** @returns {Record<string, Remembered>} */
const stored = () => JSON.parse(localStorage.getItem(STORED) ?? "{}");

/** Set the hash of the image, unless its file can no longer be read. @param {PageImage} image */
export async function hashed(image) {
	image.hash ??= await hashOf(image.file).catch(() => null);
}

/** Return the entries of these images, by image. `entries` are found by hash, and have the `bytes` of the file. Only
 *  files of such a size are read.
 *
 *  @template {{ bytes: number }} Entry
 *  @param {SortedImage[]} images @param {Map<string, Entry>} entries @param {AbortSignal} [signal] */
export async function found(images, entries, signal) {
	const sizes = new Set([...entries.values()].map(({ bytes }) => bytes));
	/** @type {Map<SortedImage, Entry>} */
	const known = new Map();
	for (const image of images.filter(({ file }) => sizes.has(file.size))) {
		await hashed(image);
		if (signal?.aborted) break;
		const entry = entries.get(image.hash ?? "");
		if (entry) known.set(image, entry);
	}
	return known;
}

/** Remember the images, or forget those that are no longer skipped or checked. Returns whether this browser has
 *  space for it, and can hash files.
 *
 *  @param {SortedImage[]} images @param {string[]} names */
export async function note(images, names) {
	const changed = images.filter(({ skipped, held, noted }) => skipped || held || noted);
	if (!changed.length) return true;
	await Promise.all(changed.map(hashed));
	if (changed.every(({ hash }) => !hash)) return false;
	const all = stored();
	for (const image of changed) {
		const { hash, file, label, skipped, held } = image;
		if (!hash) continue;
		image.noted = Boolean(skipped || held);
		const kept = held && label ? { name: typeof label === "string" ? label : null } : null;
		if (image.noted) all[hash] = { bytes: file.size, skipped, held, names, label: kept };
		else delete all[hash];
	}
	try {
		localStorage.setItem(STORED, JSON.stringify(all));
		return true;
	} catch {
		return false; // QuotaExceededError
	}
}

/** Set what is remembered of new images. A check comes back if a class name is the same, and the pile no smaller.
 *
 *  @param {SortedImage[]} images @param {string[]} names @param {number} total number of images on the page */
export async function recallNoted(images, names, total) {
	for (const [image, entry] of await found(images, new Map(Object.entries(stored())))) {
		if (image.label) continue;
		const { skipped, held, label } = entry;
		const isSame = !entry.names?.length || !names.length || entry.names.some((name) => names.includes(name));
		if (isSame && held <= total)
			Object.assign(image, { skipped, held, noted: true, label: label && (label.name ?? NONE) });
		else Object.assign(image, { skipped, noted: skipped });
	}
}
