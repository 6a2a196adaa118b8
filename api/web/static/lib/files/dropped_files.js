// Dropped or chosen files as a list of {path: ["folder", …, "file"], file}.

import { requestJson } from "../service/http.js";
import { unzip } from "./unzip.js";

/** Return all files of a drop, with folders and zips opened. @param {DataTransfer} transfer */
export async function dropped(transfer) {
	// The entries are valid only during the event, so all are read before the first await.
	const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
	const files = entries.length ? [] : [...transfer.files].map((file) => ({ path: [file.name], file }));
	for (const entry of entries) await walk(entry, [], files);
	return opened(files);
}

/** Return all files of a file field. @param {HTMLInputElement} input */
export function chosen(input) {
	return opened(
		[...(input.files ?? [])].map((file) => ({ path: (file.webkitRelativePath || file.name).split("/"), file })),
	);
}

let pastedCount = 0;
/** Return the images of a paste event. Their names are numbered, since browsers call each "image.png". @param {ClipboardEvent} event */
export function pasted(event) {
	const images = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
	return images.map((file) => {
		pastedCount += 1;
		const name = `pasted ${pastedCount}.${file.type.slice("image/".length).replace(/[^a-z0-9].*$/, "")}`;
		return { path: [name], file: new File([file], name, { type: file.type }) };
	});
}

/** @param {any} entry @param {string[]} above @param {DroppedFile[]} into */
async function walk(entry, above, into) {
	const path = [...above, entry.name];
	if (entry.isFile) {
		// A file that can't be opened, such as one of another user, is listed as an unreadable image.
		into.push({
			path,
			file: await new Promise((resolve) => entry.file(resolve, () => resolve(new File([], entry.name)))),
		});
		return;
	}
	const reader = entry.createReader();
	for (;;) {
		// readEntries returns at most 100 entries per call, and none at the end.
		const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
		if (!batch.length) return;
		for (const child of batch) await walk(child, path, into);
	}
}

/** Return `files` with zips replaced by their content. @param {DroppedFile[]} files */
export async function opened(files) {
	const all = [];
	for (const item of files) {
		if (/\.zip$/i.test(item.file.name)) {
			for (const inner of await unzip(item.file)) all.push(inner);
		} else all.push(item);
	}
	return all;
}

const collator = new Intl.Collator("en", { numeric: true });
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;

/** Return the images among the files as [{path, file, name}], sorted by path. @param {DroppedFile[]} items */
export function imagesOf(items) {
	const images = items.filter(
		({ path, file }) =>
			!path.some((part) => part.startsWith(".") || part === "__MACOSX") &&
			(file.type.startsWith("image/") || IMAGE.test(file.name)),
	);
	return inOrder(images).map(({ path, file }) => ({ path, file, name: nameOf(path) }));
}

/** Return class and split of each image, and the folders with files that are left out. The service decides by the paths
 *  alone; files in no folder have no class, so it isn't asked about them. If the person has `named` the class, images outside
 *  class folders count, too.
 *
 *  @param {DroppedFile[]} items @param {boolean} named
 *  @returns {Promise<{ images: PlacedFile[], leftOut: Schemas["LayoutFolder"][] }>} */
export async function placesOf(items, named) {
	if (items.every(({ path }) => path.length === 1)) {
		const images = imagesOf(items).map((image) => ({
			...image,
			folder: null,
			className: null,
			split: /** @type {const} */ ("train"),
		}));
		return { images, leftOut: [] };
	}
	const files = inOrder(items);
	const { folders, files: places } = await requestJson("/adapt/layout", {
		method: "POST",
		json: { paths: files.map(({ path }) => path.join("/")) },
	});
	/** @param {Schemas["LayoutFolder"]} place */
	const counts = ({ left_out: leftOut }) => !leftOut || (named && leftOut.code === "images_without_class");
	return {
		images: files.flatMap(({ path, file }, i) => {
			const place = folders[places[i]];
			if (!counts(place)) return [];
			const { folder, class_name: className, split } = place;
			return [{ path, file, name: nameOf(path), folder, className, split: split === "test" ? "test" : "train" }];
		}),
		leftOut: folders.filter((place) => !counts(place)),
	};
}

/** @template {DroppedFile} Item @param {Item[]} items */
function inOrder(items) {
	return items.toSorted((a, b) => collator.compare(a.path.join("/"), b.path.join("/")));
}

/** @param {string[]} path */
const nameOf = (path) => path.at(-1) ?? "";
