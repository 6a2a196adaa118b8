// From dropped files to a pile: an earlier one with the same files, or a new one.

import { button, h, modal, titledDialog } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { openPile } from "../../lib/sorting/pile.js";
import { hashOf } from "../../lib/training/image_check.js";
import { count } from "../../lib/words.js";

const HASHED_AT_ONCE = 4;
const NEW = "new";

/** @typedef {DroppedFile & { name: string }} Original */

/** Return the files with paths below their common folder, and the name of that folder; null without one.
 *
 *  @param {Original[]} files */
function belowFolder(files) {
	const [folder] = files[0].path;
	if (files.some(({ path }) => path.length < 2 || path[0] !== folder)) return { folder: null, files };
	return { folder, files: files.map((file) => ({ ...file, path: file.path.slice(1) })) };
}

/** Open the pile of these files: an earlier one if the person agrees, or a new one. The other files are sent to it. Returns
 *  the pile, or null if the person goes back. `progress` gets the number of files that were looked at.
 *
 *  @param {Original[]} dropped @param {string} model of a new pile
 *  @param {{ progress: (done: number) => void, signal: AbortSignal }} options */
export async function pileOf(dropped, model, { progress, signal }) {
	const { folder, files } = belowFolder(dropped);
	const matches = await matchesOf(files, progress, signal);
	const chosen = matches.length ? await chosenOf(matches, files.length, signal) : NEW;
	if (!chosen) return null;
	if (chosen !== NEW) {
		const { pile, positions } = matches[Number(chosen)];
		const open = openPile(pile.id, pile);
		open.add(files, positions);
		return open;
	}
	const body = { name: folder, model, keeps_images: true };
	const pile = await requestJson("/piles", { method: "POST", json: body, signal });
	const open = openPile(pile.id, pile);
	open.add(files);
	return open;
}

/** Add files to an open pile. Those that it has are only remembered as originals.
 *
 *  @param {import("../../lib/sorting/pile.js").OpenPile} pile @param {Original[]} dropped
 *  @param {{ progress: (done: number) => void, signal: AbortSignal }} options */
export async function addTo(pile, dropped, { progress, signal }) {
	const { files } = belowFolder(dropped);
	const match = (await matchesOf(files, progress, signal)).find((one) => one.pile.id === pile.id);
	pile.add(files, match?.positions);
}

/** Return the piles with any of the files. Without hashes, which browsers offer on localhost and over https only, there are
 *  none, and the service finds the files that it has.
 *
 *  @param {Original[]} files @param {(done: number) => void} progress @param {AbortSignal} signal */
async function matchesOf(files, progress, signal) {
	/** @type {(string | null)[]} */
	const hashes = [];
	for (let at = 0; at < files.length; at += HASHED_AT_ONCE) {
		progress(at);
		const part = files.slice(at, at + HASHED_AT_ONCE);
		hashes.push(...(await Promise.all(part.map(({ file }) => hashOf(file).catch(() => null)))));
		signal.throwIfAborted();
	}
	const places = [...hashes.keys()].filter((i) => hashes[i]);
	if (!places.length) return [];
	const json = { sha256: places.map((i) => hashes[i]) };
	const { data } = await requestJson("/piles/match", { method: "POST", json, signal });
	return data.map(({ pile, positions }) => {
		const found = new Map(places.map((place, i) => [place, positions[i]]));
		return { pile, positions: files.map((_, i) => found.get(i) ?? null) };
	});
}

/** Ask which pile to go on with. Resolves to its place, to "new", or to nothing.
 *
 *  @param {{ pile: Schemas["Pile"], positions: (number | null)[] }[]} matches @param {number} total @param {AbortSignal} signal */
function chosenOf(matches, total, signal) {
	const rows = matches.map(({ pile, positions }, i) => {
		const known = positions.filter((position) => position !== null).length;
		const has = known === total ? "all of them" : `${known.toLocaleString("en")} of ${count(total, "photo")}`;
		const adds = known === total ? "" : " The others join it.";
		const words = `Continue with ${count(pile.counts.labelled, "label")}`;
		const go = button(words, () => dialog.close(`${i}`), i ? "quiet" : "main");
		return h("li", {}, h("p", {}, h("strong", {}, pile.name), ` has ${has}.${adds}`), go);
	});
	const back = button("Go back", () => dialog.close(""));
	const make = button("Make a new pile", () => dialog.close(NEW));
	const dialog = titledDialog("The service knows these photos", h("ul", { class: "known" }, rows), back, make);
	return modal(dialog, signal);
}
