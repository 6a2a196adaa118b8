// The cards of all classes. A card is kept while its class is there.

import { h } from "../../lib/dom.js";
import { classCard } from "../class_card.js";

/** @import { ShotClass, Shots } from "../../lib/training/training_form.js" */

/** Create the cards. `take` gets files for a class; `emptied` is called once the last class was removed.
 *
 *  @param {Shots} shots
 *  @param {{ take: (files: Promise<DroppedFile[]>, entry: ShotClass) => unknown, emptied: () => void,
 *            signal: AbortSignal }} options */
export function classCards(shots, { take, emptied, signal }) {
	const element = h("div", { class: "classes" });
	/** @type {Map<ShotClass, ReturnType<typeof classCard>>} */
	const cards = new Map();

	/** @param {ShotClass} entry */
	function newCard(entry) {
		const add = (items) => take(items, entry);
		const card = classCard(entry, shots, { add, removeClass: () => remove(entry), signal });
		cards.set(entry, card);
		element.append(card.element);
		return card;
	}
	/** Remove the class, and focus the next one. @param {ShotClass} entry */
	function remove(entry) {
		const at = shots.classes.indexOf(entry);
		shots.removeClass(entry);
		const next = cards.get(shots.classes[at] ?? shots.classes[at - 1]);
		if (next) next.element.querySelector("button")?.focus();
		else emptied();
	}
	function refresh() {
		for (const [entry, card] of cards) {
			if (shots.classes.includes(entry)) continue;
			card.remove();
			cards.delete(entry);
		}
		for (const entry of shots.classes) (cards.get(entry) ?? newCard(entry)).refresh();
	}
	/** Record images of a new class. */
	function record() {
		const entry = shots.addClass();
		refresh();
		cards.get(entry)?.record();
	}
	/** Return the class with the focus. */
	const focused = () => shots.classes.find((entry) => cards.get(entry)?.element.contains(document.activeElement));
	/** Scroll to the first image that can't be read. */
	function showFault() {
		const fault = element.querySelector(".thumbs .bad");
		fault?.scrollIntoView({ block: "center" });
		fault?.querySelector("button")?.focus({ preventScroll: true });
	}
	return { element, refresh, record, focused, showFault };
}
