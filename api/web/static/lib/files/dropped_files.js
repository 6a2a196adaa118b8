// Dropped or chosen files as a list of {path: ["folder", …, "file"], file}.

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

const TRAIN = new Set(["train", "training"]);
const TEST = new Set(["test", "testing"]);
const VALIDATION = new Set(["val", "valid", "validation"]);
const inOrder = new Intl.Collator("en", { numeric: true }).compare;
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;

/** Return the images among the files as [{path, file, name}], sorted by path. @param {DroppedFile[]} items */
export function imagesOf(items) {
	const images = items.filter(
		({ path, file }) =>
			!path.some((part) => part.startsWith(".") || part === "__MACOSX") &&
			(file.type.startsWith("image/") || IMAGE.test(file.name)),
	);
	images.sort((a, b) => inOrder(a.path.join("/"), b.path.join("/")));
	return images.map(({ path, file }) => ({ path, file, name: path.at(-1) ?? file.name }));
}

/** Return class and split (train or test) of each image, by its folders: [{path, file, name, className, split}].
 *
 *  The service has the same rules for archives (api/archives/layout.py). Folders that enclose all
 *  files are ignored, and so is a validation split beside a test split. `className` is null outside class folders.
 *
 *  Throws an Error for an ambiguous layout.
 *
 *  @param {DroppedFile[]} items
 *  @returns {(DroppedFile & { name: string, className: string | null, split: "train" | "test" })[]} */
export function assignClasses(items) {
	const images = imagesOf(items);
	let root = 0;
	let inner, tops, known, deep;
	for (;;) {
		inner = images.filter(({ path }) => path.length > root + 1);
		tops = new Set(inner.map(({ path }) => path[root]));
		deep = new Set(inner.filter(({ path }) => path.length > root + 2).map(({ path }) => path[root]));
		known = [...tops].filter((top) => [TRAIN, TEST, VALIDATION].some((names) => names.has(top.toLowerCase())));
		if (tops.size !== 1 || !deep.size || known.length) break;
		root += 1;
	}
	const kind = (names) => new Set(known.filter((top) => deep.has(top) && names.has(top.toLowerCase())));
	const train = kind(TRAIN);
	const validation = kind(VALIDATION);
	const test = kind(TEST);
	// train/ and test/ are splits only side by side or alone, since a class may be called "train" too.
	const hasSplits = train.size + test.size + validation.size > 0;
	const areSplits = hasSplits && (tops.size === known.length || (train.size > 0 && test.size + validation.size > 0));
	const odd = [...tops].filter((top) => !known.includes(top));
	if (areSplits && odd.length) {
		throw new Error(
			`Class folders outside ${known.sort().join(" and ")}: ${odd.join(", ")}. Move them into train or test.`,
		);
	}
	const testFolders = test.size ? test : validation;
	const depth = areSplits ? root + 1 : root;
	return images
		.filter(
			({ path }) => !areSplits || path.length <= depth + 1 || train.has(path[root]) || testFolders.has(path[root]),
		)
		.map(({ path, file, name }) => ({
			path,
			file,
			name,
			className: path.length > depth + 1 ? path[depth] : null,
			split: areSplits && path.length > depth + 1 && testFolders.has(path[root]) ? "test" : "train",
		}));
}
