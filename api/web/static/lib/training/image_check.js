// Image checks in the browser, before the upload.

import { call } from "../service/http.js";

const MAX_CONCURRENT = 4;
const THUMBNAIL_SIDE = 168; // pixels
const MIN_SIDE = 32; // pixels
const UNSUPPORTED_BY_BROWSERS = /\.(tiff?|heic|heif)$/i; // Safari alone reads them

/** @type {[PageImage, () => void][]} */
const waiting = [];
let busy = 0;

/** Set `url` (a thumbnail), `width`, `height`, `hash` and `problem` of the image, once.
 *  At most MAX_CONCURRENT images are decoded at a time. Resolves when this image is done.
 *
 *  @param {PageImage} image @returns {Promise<void>} */
export function inspect(image) {
	image.inspected ??= new Promise((resolve) => {
		waiting.push([image, resolve]);
		next();
	});
	return image.inspected;
}

/** Revoke the thumbnail of an image that isn't used any more. It gets no other one. @param {PageImage} image */
export function forget(image) {
	image.forgotten = true;
	if (image.url) URL.revokeObjectURL(image.url);
	image.url = undefined;
}

/** Inspect the image. If only the service can show its format, ask it for the thumbnail, once. @param {PageImage} image */
export async function pictured(image) {
	await inspect(image);
	if (image.url || image.forgotten || !UNSUPPORTED_BY_BROWSERS.test(image.file.name)) return;
	image.thumbnail ??= thumbnailOf(image.file);
	image.url = await image.thumbnail;
	if (image.forgotten) forget(image);
}

function next() {
	if (busy >= MAX_CONCURRENT || !waiting.length) return;
	const [image, resolve] = /** @type {[PageImage, () => void]} */ (waiting.shift());
	busy += 1;
	check(image)
		.catch(() => {
			image.problem = {
				level: "bad",
				detail: "Can't be read. It may have been moved or deleted, or belong to another user. Add it again.",
			};
		})
		.finally(() => {
			busy -= 1;
			resolve();
			next();
		});
}

/** @param {PageImage} image */
async function check(image) {
	if (image.forgotten) return;
	image.hash = await hashOf(image.file);
	let bitmap;
	try {
		bitmap = await createImageBitmap(image.file);
	} catch {
		// The service reads formats that browsers can't show, so these are left to its check.
		if (UNSUPPORTED_BY_BROWSERS.test(image.file.name)) return;
		image.problem = { level: "bad", detail: "Can't be read as an image: damaged, or another kind of file." };
		return;
	}
	image.width = bitmap.width;
	image.height = bitmap.height;
	if (Math.min(bitmap.width, bitmap.height) < MIN_SIDE) {
		image.problem = { level: "note", detail: `Only ${bitmap.width} × ${bitmap.height} pixels. Use a larger image.` };
	}
	image.url = URL.createObjectURL(await downscale(bitmap, THUMBNAIL_SIDE, "image/webp", 0.8));
	if (image.forgotten) forget(image);
	bitmap.close();
}

/** Return the URL of a thumbnail from the service; undefined if it can't make one. @param {File} file */
async function thumbnailOf(file) {
	try {
		const headers = { "Content-Type": "application/octet-stream" };
		return URL.createObjectURL(
			await (await call("/thumbnail", { method: "POST", body: file, headers, quiet: true })).blob(),
		);
	} catch {
		return undefined;
	}
}

/** Return the SHA-256 of the file, or null where browsers don't offer it. Throws if the file can't be read.
 *
 *  @param {File} file */
export async function hashOf(file) {
	// Browsers offer crypto.subtle on localhost and over https only. Elsewhere the service finds duplicates.
	if (!globalThis.crypto?.subtle) return null;
	const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
	return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Encode the image as a blob of the given type, with at most `maxSide` pixels per side.
 *
 *  @param {ImageBitmap} bitmap @param {number} maxSide @param {string} type @param {number} quality */
export async function downscale(bitmap, maxSide, type, quality) {
	const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
	const canvas = new OffscreenCanvas(
		Math.max(1, Math.round(bitmap.width * scale)),
		Math.max(1, Math.round(bitmap.height * scale)),
	);
	const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
	pen.imageSmoothingQuality = "high";
	if (type === "image/jpeg") {
		pen.fillStyle = "#fff"; // the background that the service uses for transparent images
		pen.fillRect(0, 0, canvas.width, canvas.height);
	}
	pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
	return canvas.convertToBlob({ type, quality });
}

/** Mark exact duplicates, within a class or across classes. @param {{ name: string, images: PageImage[] }[]} classes */
export function markDuplicates(classes) {
	const first = new Map();
	for (const entry of classes) {
		for (const image of entry.images) {
			if (image.problem?.duplicate) image.problem = null;
			if (!image.hash) continue;
			const original = first.get(image.hash);
			if (!original) {
				first.set(image.hash, { entry, image });
				continue;
			}
			image.problem ??= {
				duplicate: true,
				level: "note",
				detail:
					original.entry === entry
						? `Duplicate of ${original.image.name}.`
						: `Also in class “${original.entry.name}”: one of the two labels must be wrong.`,
			};
		}
	}
}
