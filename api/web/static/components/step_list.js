// The steps of a view, shown while it is empty.

import { h } from "../lib/dom.js";

/** @param {string[][]} steps each with its name and a sentence */
export function stepList(steps) {
	const items = steps.map(([name, text]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, text)));
	return h("ol", { class: "steps" }, items);
}
