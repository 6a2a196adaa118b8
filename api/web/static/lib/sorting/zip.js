// The sorted photos as a zip, with the folders of `clipcite sort`. Files are stored as they are, and the blob refers to them,
// so that they are never in memory together.

import { ELSE, groupsOf, UNSURE } from "./groups.js";

/** @type {Record<string, string>} */
const FOLDERS = { [UNSURE]: "unsure", [ELSE]: "something else" };
const DEVICES = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // names that Windows reserves
const MAX_BYTES = 0xffffffff;
const MAX_FILES = 0xffff;
const UTF8 = 0x0800;
const HEADER_BYTES = 46; // in the directory; a file's own header is shorter

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
	let sum = byte;
	for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
	return sum;
});

/** Return the files of the zip [{path, file}], with a folder per group. Photos whose original isn't on this page are left out.
 *
 *  @param {Pick<import("./pile.js").OpenPile, "photos" | "names" | "threshold" | "originals">} pile */
export function sortedFiles({ photos, names, threshold, originals }) {
	const folders = new Set(Object.values(FOLDERS));
	const files = [];
	for (const { kind, name, photos: members } of groupsOf(photos, names, threshold)) {
		const folder = FOLDERS[kind] ?? unique(safeName(cut(name)), "", folders);
		const taken = new Set();
		for (const photo of members) {
			const file = originals.get(photo.position);
			if (!file) continue;
			const [, stem, ending] = /^(.*?)(\.[^.]*)?$/s.exec(safeName(photo.name)) ?? [];
			files.push({ path: `${folder}/${unique(stem, ending ?? "", taken)}`, file });
		}
	}
	return files;
}

/** Replace what Windows or another system refuses in a file name. @param {string} name */
function safeName(name) {
	const safe =
		name
			.replace(/[<>:"/\\|?*\p{Cc}]/gu, "_")
			.trim()
			.replace(/^\./, "_")
			.replace(/[. ]+$/, "") || "_";
	return DEVICES.test(safe) ? `_${safe}` : safe;
}

/** Cut the name of a folder to 120 bytes. @param {string} name */
function cut(name) {
	return name.slice(0, new TextEncoder().encodeInto(name, new Uint8Array(120)).read);
}

/** Return a zip of the files [{path, file}] as a blob. `progress` gets the number of files that were read.
 *
 *  @param {{ path: string, file: File }[]} files @param {(done: number) => void} progress @param {AbortSignal} signal */
export async function zipped(files, progress, signal) {
	const names = files.map(({ path }) => new TextEncoder().encode(path));
	const bytes = files.reduce((sum, { file }, i) => sum + file.size + 2 * (names[i].length + HEADER_BYTES), 22);
	if (bytes > MAX_BYTES || files.length > MAX_FILES)
		throw new Error(
			"The zip would be larger than 4 GB. Use the command clipcite sort instead, or sort fewer images at once.",
		);
	const parts = [];
	const directory = [];
	let at = 0;
	for (const [i, { file }] of files.entries()) {
		signal.throwIfAborted();
		const facts = [UTF8, 0, ...dosTime(new Date(file.lastModified))];
		const sizes = [await checksum(file), file.size, file.size];
		const head = record([0x04034b50, 4], [20, 2], ...pairs(facts, 2), ...pairs(sizes, 4), [names[i].length, 2], [0, 2]);
		directory.push(
			record(
				[0x02014b50, 4],
				[20, 2],
				[20, 2],
				...pairs(facts, 2),
				...pairs(sizes, 4),
				[names[i].length, 2],
				...pairs([0, 0, 0, 0], 2),
				[0, 4],
				[at, 4],
			),
			names[i],
		);
		parts.push(head, names[i], file);
		at += head.length + names[i].length + file.size;
		progress(i + 1);
	}
	const size = directory.reduce((sum, { length }) => sum + length, 0);
	const end = record([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [at, 4], [0, 2]);
	return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** @param {number[]} values @param {number} width @returns {[number, number][]} */
const pairs = (values, width) => values.map((value) => [value, width]);

/** Return the values as little-endian bytes. Each is given with its width in bytes.
 *
 *  @param {[number, number][]} fields */
function record(...fields) {
	const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, width]) => sum + width, 0)));
	let at = 0;
	for (const [value, width] of fields) {
		if (width === 2) view.setUint16(at, value, true);
		else view.setUint32(at, value, true);
		at += width;
	}
	return new Uint8Array(view.buffer);
}

/** Return the CRC-32 of the file, read piece by piece. @param {File} file */
async function checksum(file) {
	let sum = 0xffffffff;
	try {
		for await (const piece of pieces(file.stream()))
			for (const byte of piece) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
	} catch {
		throw new Error(
			`${file.name} can no longer be read. If it was moved or deleted, put it back, then download again.`,
		);
	}
	return (sum ^ 0xffffffff) >>> 0;
}

/** @param {ReadableStream<Uint8Array>} stream */
async function* pieces(stream) {
	const reader = stream.getReader(); // Safari can't iterate a stream
	for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/** Return time and date of the format, which begins in 1980. @param {Date} time */
function dosTime(time) {
	if (time.getFullYear() < 1980) return [0, 0x21];
	return [
		(time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1),
		((time.getFullYear() - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate(),
	];
}

/** Return a name that isn't among the `taken` ones, and take it: "a.jpg", "a (2).jpg". Upper and lower case are equal.
 *
 *  @param {string} stem @param {string} ending @param {Set<string>} taken */
function unique(stem, ending, taken) {
	let free = stem + ending;
	for (let number = 2; taken.has(free.toLowerCase()); number += 1) free = `${stem} (${number})${ending}`;
	taken.add(free.toLowerCase());
	return free;
}
