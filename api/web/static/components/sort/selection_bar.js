// Bar with what can be done with the selected images. It stays at the bottom of the window.

import { button, focusedIn, h, kbd, replace } from "../../lib/dom.js";
import { DIGITS, NONE } from "../../lib/sorting/groups.js";
import { count } from "../../lib/words.js";
import { onPhone } from "../dropzone.js";
import { acceptImages } from "./groups.js";

/** @import { Sorting } from "../../lib/sorting/sorting.js" */

/** Create the bar. `acts` has the functions move(name), ask, right, look, back, undo and clear, and `left`, which
 *  is called when the button with the focus goes.
 *
 *  @param {Sorting} sorting @param {Set<SortedImage>} picked
 *  @param {Record<"ask" | "right" | "look" | "back" | "undo" | "clear" | "left", () => void>
 *          & { move: (name: Label) => void }} acts */
export function selectionBar(sorting, picked, acts) {
	const tally = h("p", { class: "tally" });
	const small = (text, key, act) => button([text, key && kbd(key)], act, "quiet small");
	const right = small("It's right", "Enter", acts.right);
	const ask = small("Move to …", "/", acts.ask);
	const none = small("None of these", "X", () => acts.move(NONE));
	const look = small("Look closer", "L", acts.look);
	const back = small("Take back", "Del", acts.back);
	const undo = small("Undo", "", acts.undo);
	const clear = small("Clear", "Esc", acts.clear);
	const classes = h("div", { class: "row moves", role: "group", "aria-label": "Move to a class" });
	const element = h(
		"div",
		{ class: "card begin picked", role: "group", "aria-label": "Selected images" },
		h("div", { class: "row" }, tally, right, ask, none, look, back, clear, undo),
		classes,
	);
	let shown = "";

	function refresh() {
		const chosen = [...picked];
		const any = chosen.length > 0;
		element.hidden = !any && !sorting.canUndo;
		tally.textContent = any
			? `${count(chosen.length, "image")} selected`
			: `${count(sorting.labelled.length, "label")}`;
		for (const one of [right, ask, none, look, clear]) one.hidden = !any;
		right.hidden = !any || !chosen.some(({ predictions, label }) => predictions && !label);
		back.hidden = !chosen.some(({ label }) => label);
		undo.hidden = !sorting.canUndo;
		classes.hidden = !any || onPhone;
		if (focusedIn(element)?.closest("[hidden]")) acts.left();
		const names = sorting.names.slice(0, DIGITS.length).map(({ name }) => name);
		if (names.join("\n") === shown) return;
		shown = names.join("\n");
		replace(
			classes,
			names.map((name, i) => {
				const to = small(name, DIGITS[i], () => acts.move(name));
				acceptImages(to, () => acts.move(name));
				return to;
			}),
		);
	}
	return { element, refresh };
}
