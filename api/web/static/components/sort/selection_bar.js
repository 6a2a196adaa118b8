// Bar with what can be done with the selected photos. It stays at the bottom of the window.

import { button, focusedIn, h, kbd, replace } from "../../lib/dom.js";
import { DIGITS, isGuess, labelOf, NONE } from "../../lib/sorting/groups.js";
import { count } from "../../lib/words.js";
import { onPhone } from "../dropzone.js";
import { acceptImages } from "./groups.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

/** Create the bar. `acts` has what its buttons do, and `left`, which is called when the button with the focus goes. In the
 *  order of Tab the bar follows the selected photos, although it comes after all groups: `after` focuses what comes next, and
 *  returns whether there is anything.
 *
 *  @param {OpenPile} pile @param {Set<Photo>} picked
 *  @param {Record<"ask" | "right" | "look" | "skip" | "back" | "undo" | "clear" | "left", () => void>
 *          & { move: (name: Label) => void, after: () => boolean }} acts */
export function selectionBar(pile, picked, acts) {
	const tally = h("p", { class: "tally" });
	const small = (text, key, act) => button([text, key && kbd(key)], act, "quiet small");
	const right = small("It's right", "Enter", acts.right);
	const ask = small("Move to …", "/", acts.ask);
	const none = small("None of these", "X", () => acts.move(NONE));
	const skip = small("Skip", "S", acts.skip);
	const look = small("Look closer", "L", acts.look);
	const back = small("Take back", "Del", acts.back);
	const undo = small("Undo", "", acts.undo);
	const clear = small("Clear", "Esc", acts.clear);
	const classes = h("div", { class: "row moves", role: "group", "aria-label": "Move to a class" });
	const element = h(
		"div",
		{ class: "card begin picked", role: "group", "aria-label": "Selected photos", onkeydown: keyDown },
		h("div", { class: "row" }, tally, right, ask, none, skip, look, back, clear, undo),
		classes,
	);
	let shown = "";

	const stops = () => [...element.querySelectorAll("button")].filter((one) => !one.closest("[hidden]"));
	/** @param {KeyboardEvent} event */
	function keyDown(event) {
		const { key, shiftKey, target } = event;
		if (key !== "Tab" || !picked.size) return;
		if (shiftKey && target === stops()[0]) acts.left();
		else if (shiftKey || target !== stops().at(-1) || !acts.after()) return;
		event.preventDefault();
	}
	function refresh() {
		const chosen = [...picked];
		const any = chosen.length > 0;
		element.hidden = !any && !pile.canUndo;
		tally.textContent = any ? `${count(chosen.length, "photo")} selected` : "";
		for (const one of [ask, none, skip, look, clear]) one.hidden = !any;
		right.hidden = !chosen.some(isGuess);
		back.hidden = !chosen.some(labelOf);
		undo.hidden = !pile.canUndo;
		classes.hidden = !any || onPhone;
		if (focusedIn(element)?.closest("[hidden]")) acts.left();
		const names = pile.names.slice(0, DIGITS.length);
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
	return { element, refresh, focus: () => stops()[0].focus() };
}
