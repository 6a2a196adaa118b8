// Card of one class: name, images with their findings, prompts.

import { button, fold, h, newId, unseen } from "../lib/dom.js";
import { count, partsOf } from "../lib/words.js";
import { hasCamera, openCamera, recorder } from "./camera.js";
import { acceptDrops, imagePickers } from "./dropzone.js";
import { thumbnails } from "./thumbnails.js";

/** @import { Shot, ShotClass, Shots } from "../lib/training/training_form.js" */

const SHOWN = 24;
const MIN_SHOTS = 4; // below, the card suggests more images
const USE_OF_PROMPTS = "Useful if the name says little, such as a part number. One sentence per line.";

/** Create the card. `add` gets a promise of files; `removeClass` removes the class; `signal` ends with the view.
 *
 *  @param {ShotClass} entry @param {Shots} shots
 *  @param {{ add: (files: Promise<DroppedFile[]>) => unknown, removeClass: () => void, signal: AbortSignal }} options */
export function classCard(entry, shots, { add, removeClass, signal }) {
	let all = false;
	const id = newId("class");
	const name = h("input", {
		id,
		class: "class-name",
		maxlength: "200",
		autocomplete: "off",
		placeholder: "Class name",
		oninput: () => {
			entry.name = name.value;
			shots.changed();
		},
	});
	const summary = h("p", { class: "soft" });
	const grid = thumbnails((image) => {
		shots.remove(image);
		if (!entry.images.length) sources.querySelector("button")?.focus();
	});
	const panel = h("div", {});
	const removed = new AbortController();
	const record = () =>
		openCamera(panel, (...camera) => recorder(add, ...camera), AbortSignal.any([signal, removed.signal]));
	const more = button("", showAll, "quiet small");
	function showAll() {
		all = true;
		refresh();
	}
	const words = h("textarea", {
		rows: "2",
		id: `${id}-prompts`,
		placeholder: "a frayed metal surface",
		oninput: () => {
			entry.prompts = partsOf(words.value);
			shots.changed();
		},
	});
	const sources = h("div", { class: "row sources" }, imagePickers("Add images", add, hasCamera ? record : null));
	const label = h("label", { for: id, class: "unseen" }, "Class name");
	const head = h(
		"div",
		{ class: "row" },
		label,
		name,
		button(["Remove", unseen(" this class")], removeClass, "quiet small"),
	);
	const prompts = fold("Describe in words", h("label", { for: words.id, class: "soft" }, USE_OF_PROMPTS), words);
	const parts = [head, summary, grid.element, more, sources, panel, prompts];
	const element = h("article", { class: "card class", "aria-labelledby": id }, parts);
	acceptDrops(element, add);

	function refresh() {
		if (name.value !== entry.name) name.value = entry.name;
		if (document.activeElement !== words) words.value = entry.prompts.join("\n");
		const shotCount = entry.images.filter((image) => image.split === "train").length;
		const testCount = entry.images.length - shotCount;
		const advice = shotCount > 0 && shotCount < MIN_SHOTS ? " More images improve the model." : "";
		summary.textContent = `${count(shotCount, "training image")}${testCount ? `, ${count(testCount, "test image")}` : ""}.${advice}`;
		// Images with problems come first, so that "Show all" never hides them. Test images come last.
		const order = [...entry.images].sort(
			(a, b) => rank(b) - rank(a) || Number(a.split === "test") - Number(b.split === "test"),
		);
		const shown = all ? order : order.slice(0, SHOWN);
		grid.show(shown);
		more.hidden = shown.length === order.length;
		more.textContent = `Show all ${order.length}`;
	}
	function remove() {
		removed.abort();
		element.remove();
	}
	return { element, refresh, remove, record };
}

/** @param {Shot} image */
function rank(image) {
	return image.problem ? { bad: 2, note: 1 }[image.problem.level] : 0;
}
