// One photo of a pile: a thumbnail that is loaded while it is in or near the view, and its class.

import { h } from "../../lib/dom.js";
import { classOf, labelOf, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { percent } from "../../lib/words.js";
import { showPhoto } from "../stored_image.js";
import { whenSeen } from "../when_seen.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

/** Create the tile of a photo. @param {OpenPile} pile @param {Photo} photo */
export function tile(pile, photo) {
	const thumb = h("img", { alt: "", width: "96", height: "96", hidden: true, draggable: "false" });
	const blank = h("span", { class: "blank", "aria-hidden": "true" }, photo.name);
	const words = h("span", { class: "tile-words", "aria-hidden": "true" });
	const element = h(
		"li",
		{ class: "tile", role: "option", tabindex: "-1", draggable: "true", title: photo.file, "aria-selected": "false" },
		blank,
		thumb,
		words,
	);
	whenSeen(element, async () => {
		if (!(await showPhoto(thumb, pile, photo.position))) return;
		thumb.hidden = false;
		blank.hidden = true;
	});
	let shown = "";
	/** @param {{ withClass: boolean, isPicked: boolean }} state */
	function refresh({ withClass, isPicked }) {
		element.setAttribute("aria-selected", String(isPicked));
		const group = classOf(photo);
		const name = wordsFor(group);
		const isYours = labelOf(photo) !== null;
		const sure = isYours ? "✓" : group && group !== NONE ? percent(sureness(photo)) : "";
		const heard = [photo.file, ...statesOf(photo)].join(", ");
		const state = `${heard} ${withClass}`;
		if (state === shown) return;
		shown = state;
		element.classList.toggle("yours", isYours);
		words.textContent = name ? `${sure}${withClass ? ` ${name}` : ""}` : "";
		words.hidden = !words.textContent;
		element.setAttribute("aria-label", heard);
	}
	return { element, refresh };
}

/** Return what is known of a photo, in words: its class, how sure that is, and what a person said. @param {Photo} photo */
function statesOf(photo) {
	const group = classOf(photo);
	const name = wordsFor(group) ?? "not sorted";
	if (labelOf(photo) !== null) return [name, "labelled"];
	const excluded = (photo.not_classes ?? []).map((one) => `not ${one ?? wordsFor(NONE)}`);
	const sure = group && group !== NONE ? ` ${percent(sureness(photo))}` : "";
	return [name + sure, ...excluded, ...(photo.answer?.said === "skip" ? ["skipped"] : [])];
}
