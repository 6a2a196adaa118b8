// Table of the dropped folders: class and split of their images, and the files that are left out.

import { h, newId, replace } from "../lib/dom.js";
import { count, list } from "../lib/words.js";

/** @import { Shots } from "../lib/training/training_form.js" */

/** Create the table; it is hidden without folders. @param {Shots} shots */
export function folderTable(shots) {
	const title = h("summary", { id: newId("folders") });
	const rows = h("tbody", {});
	const leftOut = h("ul", { class: "soft" });
	const heads = ["Folder", "Class", "Images"].map((name) => h("th", { scope: "col" }, name));
	const table = h(
		"div",
		{ class: "scroll", tabindex: "0", role: "region", "aria-labelledby": title.id },
		h("table", { "aria-labelledby": title.id }, h("thead", {}, h("tr", {}, heads)), rows),
	);
	const element = h("details", { class: "plain folders", open: true }, title, table, leftOut);

	function refresh() {
		const places = shots.classes.flatMap(({ name, images }) => {
			/** @type {Map<string, { train: number, test: number }>} */
			const counts = new Map();
			for (const { folder, split } of images) {
				if (folder === null) continue;
				const tally = counts.get(folder) ?? { train: 0, test: 0 };
				tally[split] += 1;
				counts.set(folder, tally);
			}
			return [...counts].map(([folder, tally]) => ({ name, folder, ...tally }));
		});
		/** @type {Map<string, { files: number, folders: string[] }>} */
		const reasons = new Map();
		for (const { folder, files, left_out: reason } of shots.leftOut) {
			const detail = reason?.detail ?? "";
			const known = reasons.get(detail) ?? { files: 0, folders: [] };
			reasons.set(detail, { files: known.files + files, folders: [...known.folders, folder].filter(Boolean) });
		}
		const left = shots.leftOut.reduce((sum, { files }) => sum + files, 0);
		element.hidden = !places.length && !left;
		table.hidden = !places.length;
		title.textContent = `${count(new Set(places.map(({ folder }) => folder)).size, "folder")}${left ? `, ${count(left, "file")} left out` : ""}`;
		replace(
			rows,
			places.map(({ name, folder, train, test }) =>
				h(
					"tr",
					{},
					h("th", { scope: "row" }, folder || "no folder"),
					h("td", {}, name.trim() || "no name yet"),
					h("td", {}, list([train ? `${train} training` : "", test ? `${test} test` : ""].filter(Boolean))),
				),
			),
		);
		replace(
			leftOut,
			[...reasons].map(([detail, { files, folders }]) =>
				h("li", {}, `Left out: ${count(files, "file")}${folders.length ? ` in ${list(folders)}` : ""}. ${detail}`),
			),
		);
	}
	refresh();
	return { element, refresh };
}
