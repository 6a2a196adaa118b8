// The sorted images as files: folders of a zip, and a table. Folders and columns are the same as in `clipcite sort`.

import { photoFacts } from "../files/photo_facts.js";
import { classOf, ELSE, groupsOf, UNREAD, UNSURE, wordsFor } from "./groups.js";
import { unique } from "./zip.js";

/** @type {Record<string, string>} */
const FOLDERS = { [UNSURE]: "unsure", [ELSE]: "something else", [UNREAD]: "unreadable" };
const DEVICES = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // names that Windows reserves

/** Return the files of the zip [{path, image}], with a folder per group.
 *
 *  @param {{ images: SortedImage[], names: ClassName[], threshold: number }} sorting */
export function sortedFiles({ images, names, threshold }) {
	const folders = new Set(Object.values(FOLDERS));
	const files = [];
	for (const { kind, name, images: members } of groupsOf(
		images,
		names.map(({ name }) => name),
		threshold,
	)) {
		const folder = FOLDERS[kind] ?? unique(safeName(cut(name)), folders);
		const taken = new Set();
		for (const image of members) files.push({ path: `${folder}/${unique(safeName(image.name), taken)}`, image });
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

/** Return the table as CSV. Its first character tells spreadsheets that it is UTF-8.
 *
 *  @param {{ images: SortedImage[], names: ClassName[], threshold: number }} sorting */
export async function asCsv(sorting) {
	const targets = new Map(sortedFiles(sorting).map(({ path, image }) => [image, path]));
	const rows = [];
	for (const image of sorting.images) {
		const { time, width, height } = await photoFacts(image.file);
		const name = classOf(image);
		const known = image.predictions ?? [];
		const probability = known.find(({ class_name: other }) => other === name)?.probability;
		const second = known.find(({ class_name: other }) => other !== name)?.class_name;
		const target = targets.get(image) ?? "";
		rows.push([
			image.path.join("/"),
			image.path.slice(0, -1).join("/"),
			time,
			`${width}`,
			`${height}`,
			wordsFor(name) ?? "",
			probability?.toFixed(4) ?? "",
			second ?? "",
			target.startsWith(`${FOLDERS[UNSURE]}/`) ? "yes" : "",
			target,
			image.error,
		]);
	}
	const header = [
		"file",
		"folder",
		"time",
		"width",
		"height",
		"class",
		"probability",
		"second class",
		"unsure",
		"target",
		"error",
	];
	return `\ufeff${[header, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n")}\r\n`;
}

/** Quote a cell. An apostrophe precedes a text that a spreadsheet would take for a formula. @param {string} cell */
function quoted(cell) {
	const text = cell.replace(/^(?=[=+\-@\t\r\n])/, "'");
	return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
