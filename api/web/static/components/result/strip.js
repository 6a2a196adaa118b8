// Strip of held-out images with the predictions before and after training.

import { button, h, unseen } from "../../lib/dom.js";
import { count } from "../../lib/words.js";
import { storedImage } from "../stored_image.js";

/** @typedef {JobReport["fixed"][number]} Change */

const SHOWN = 6;
const MAX = 200;

/** Create the strip: "wrong → right" for `fixed`, "right → wrong" for `broken`. The larger of both leads, and the
 *  other is folded. Null without changes.
 *
 *  @param {Job} job @param {Pick<JobReport, "fixed" | "broken">} report @param {AbortSignal} signal */
export function changeStrip(job, { fixed, broken }, signal) {
	if (!fixed.length && !broken.length) return null;
	const kinds = [
		{ changes: fixed, words: "wrong before, right now", label: "Wrong before, right now" },
		{ changes: broken, words: "right before, wrong now", label: "Right before, wrong now" },
	];
	const [first, second] = broken.length > fixed.length ? kinds.reverse() : kinds;
	return h(
		"div",
		{ class: "changes" },
		strip(job, first.changes, { label: first.label, signal, tally: tally(first) }),
		second.changes.length > 0 &&
			h(
				"details",
				{ class: "plain broken" },
				h("summary", {}, tally(second)),
				strip(job, second.changes, { label: second.label, signal }),
			),
	);
}

const tally = ({ changes, words }) => [h("strong", {}, count(changes.length, "image")), ` ${words}`];

/** @param {Job} job @param {Change[]} changes @param {{ label: string, signal: AbortSignal, tally?: Child }} options */
function strip(job, changes, { label, signal, tally = null }) {
	const cards = changes.slice(0, MAX).map((change) => card(job, change, signal));
	const rest = cards.slice(SHOWN);
	for (const hidden of rest) hidden.hidden = true;
	const more = button(`Show ${rest.length} more`, showAll, "quiet small");
	function showAll() {
		for (const hidden of rest) hidden.hidden = false;
		more.remove();
	}
	const foot =
		Boolean(tally || rest.length > 0) &&
		h("div", { class: "row" }, tally && h("p", { class: "tally" }, tally), rest.length > 0 && more);
	return [h("ul", { class: "strip", "aria-label": label }, cards), foot];
}

/** @param {Job} job @param {Change} change @param {AbortSignal} signal */
function card(job, { position, file_name: file, class_name: truth, before, predicted }, signal) {
	return h(
		"li",
		{},
		storedImage(job.id, position, { alt: `${file ?? "Image"}, labelled ${truth}`, signal }),
		h(
			"p",
			{},
			h("span", { class: before === truth ? "right" : "wrong" }, unseen("Before: "), before),
			h("span", { class: "arrow", "aria-hidden": "true" }, " → "),
			h("span", { class: predicted === truth ? "right" : "wrong" }, unseen("now: "), predicted),
		),
	);
}
