// One sorted image: a thumbnail that is made while it is in or near the view, and its class.

import { h } from "../../lib/dom.js";
import { classOf, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { pictured } from "../../lib/training/image_check.js";
import { percent } from "../../lib/words.js";
import { whenSeen } from "../when_seen.js";

/** Create the tile of an image. @param {SortedImage} image */
export function tile(image) {
	const thumb = h("img", { alt: "", width: "96", height: "96", hidden: true, draggable: "false" });
	const blank = h("span", { class: "blank", "aria-hidden": "true" }, image.name);
	const words = h("span", { class: "tile-words", "aria-hidden": "true" });
	const element = h(
		"li",
		{ class: "tile", role: "option", tabindex: "-1", draggable: "true", title: image.name, "aria-selected": "false" },
		blank,
		thumb,
		words,
	);
	whenSeen(element, async () => {
		await pictured(image);
		if (!image.url) return; // a format that this browser can't show
		thumb.src = image.url;
		thumb.hidden = false;
		blank.hidden = true;
	});
	let shown = "";
	/** @param {{ withClass: boolean, isPicked: boolean }} state */
	function refresh({ withClass, isPicked }) {
		element.setAttribute("aria-selected", String(isPicked));
		const group = classOf(image);
		const name = wordsFor(group);
		const sure = group && (image.label ? "✓" : group === NONE ? "" : percent(sureness(image)));
		const state = `${name} ${sure} ${withClass} ${image.error}`;
		if (state === shown) return;
		shown = state;
		element.classList.toggle("yours", Boolean(image.label));
		words.textContent = name ? `${sure}${withClass ? ` ${name}` : ""}` : "";
		words.hidden = !words.textContent;
		element.setAttribute(
			"aria-label",
			`${image.name}, ${image.label ? `${name}, your correction` : name ? `${name} ${sure}`.trim() : image.error}`,
		);
	}
	return { element, refresh };
}
