// Thumbnails of images to upload, each with its finding and a button that removes it.

import { arrange, focusedIn, h, removeButton } from "../lib/dom.js";
import { pictured } from "../lib/training/image_check.js";
import { whenSeen } from "./when_seen.js";

/** @import { Shot } from "../lib/training/training_form.js" */

/** Create an empty list. `show` sets its images. @param {(image: Shot) => void} remove */
export function thumbnails(remove) {
	const element = h("ul", { class: "thumbs" });
	/** @type {Map<Shot, ReturnType<typeof thumbnail>>} */
	const cells = new Map();
	/** @param {Shot[]} images */
	function show(images) {
		const shown = images.map((image) => {
			const cell = cells.get(image) ?? thumbnail(image, () => remove(image));
			cells.set(image, cell);
			cell.refresh();
			return cell.element;
		});
		const focused = focusedIn(element);
		arrange(element, shown);
		focused?.focus();
	}
	return { element, show };
}

/** @param {Shot} image @param {() => void} remove */
function thumbnail(image, remove) {
	const isTest = image.split === "test";
	const thumb = h("img", { alt: isTest ? `${image.name}, test image` : image.name, width: "84", height: "84" });
	const blank = h("span", { class: "blank" }, image.name);
	const badge = h("span", { class: "badge" });
	const element = h(
		"li",
		{},
		blank,
		thumb,
		isTest && h("span", { class: "tag split", "aria-hidden": "true" }, "test"),
		removeButton(image.name, remove),
		badge,
	);
	let shown = "";
	function refresh() {
		if (image.url && thumb.getAttribute("src") !== image.url) thumb.src = image.url;
		thumb.hidden = !image.url;
		blank.hidden = Boolean(image.url);
		const { level = "", detail = "" } = image.problem ?? {};
		const state = `${level} ${detail}`;
		if (state === shown) return;
		shown = state;
		element.className = level;
		badge.textContent = detail;
		badge.hidden = !detail;
	}
	whenSeen(element, () => pictured(image).then(refresh));
	return { element, refresh };
}
