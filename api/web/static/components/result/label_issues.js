// Possible label issues, corrected here; the job's stored images are then trained again.

import { announce, button, h, replace, unseen } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { pressed } from "../../lib/problem.js";
import { checkRetraining, retrain } from "../../lib/training/retrain.js";
import { count, percent } from "../../lib/words.js";
import { storedImage } from "../stored_image.js";
import { agrees } from "../train_again.js";

/** @typedef {Map<number, { kind: "moved" | "removed" | "confirmed", to: string }>} Corrections by position */

/** Decisions by job, which survive while other views are shown. @type {Map<string, Corrections>} */
const kept = new Map();

/** Create the list of label issues and wrong predictions; null if there are none.
 *
 *  @param {{ job: Job, report: JobReport, classes: string[], signal: AbortSignal }} options */
export function labelIssues({ job, report, classes, signal }) {
	const { label_issues: issues, label_issues_note: tooEarly } = report;
	const doubted = new Set(issues.map(({ position }) => position));
	const mistakes = report.mistakes.filter(({ position }) => !doubted.has(position));
	if (!issues.length && !mistakes.length && !tooEarly) return null;

	/** @type {Corrections} */
	const corrections = kept.get(job.id) ?? new Map();
	kept.set(job.id, corrections);
	const trouble = h("div", {});
	const summary = h("p", { role: "status" });
	const start = button("", begin, "main");
	const foot = h("div", { class: "go retrain", hidden: true }, start, summary);
	const key = newKey();

	function changed() {
		/** @param {string} kind */
		const of = (kind) => [...corrections.values()].filter((correction) => correction.kind === kind).length;
		const parts = [
			of("moved") && `${count(of("moved"), "label")} changed`,
			of("removed") && `${count(of("removed"), "image")} removed`,
			of("confirmed") && `${count(of("confirmed"), "label")} confirmed`,
		].filter(Boolean);
		foot.hidden = !parts.length;
		start.textContent = `Train again with ${count(corrections.size, "correction")}`;
		summary.textContent = parts.length ? `${parts.join(", ")}. The stored images are used again.` : "";
	}
	async function begin() {
		/** @type {Record<string, string>} */
		const moved = {};
		for (const [position, { kind, to }] of corrections) if (kind === "moved") moved[position] = to;
		/** @param {string} kind */
		const positions = (kind) =>
			[...corrections].filter(([, correction]) => correction.kind === kind).map(([position]) => position);
		await pressed(start, trouble, async () => {
			const changes = { moved, removed: positions("removed"), confirmed: positions("confirmed") };
			const check = checkRetraining(job.id, changes, signal);
			const note = changes.removed.length ? " It leaves the removed images out." : "";
			if (!(await agrees(start.textContent, check, signal, note))) return;
			// The same corrections get the same key, so that a retry after a lost response creates no second job.
			const id = await retrain(job.id, changes, { key: key(changes), signal });
			kept.delete(job.id);
			location.hash = `#/jobs/${encodeURIComponent(id)}`;
		});
	}
	const item = (image) => issue(job, image, classes, corrections, changed, signal);
	const rows = (images) => h("ul", { class: "issues" }, images.map(item));
	changed();
	return h(
		"details",
		{ class: "card labels", open: issues.length > 0 },
		h("summary", {}, h("h2", {}, issues.length ? count(issues.length, "possible label issue") : "Check labels")),
		tooEarly && h("p", { class: "soft" }, tooEarly),
		issues.length > 0 && [
			h(
				"p",
				{ class: "soft" },
				"Models that never saw these images predict another class. Some labels may be wrong. A wrong label costs more than a missing image.",
			),
			rows(issues),
		],
		mistakes.length > 0 &&
			h(
				"details",
				{ class: "plain", open: !issues.length && !tooEarly },
				h("summary", {}, count(mistakes.length, "wrong prediction")),
				rows(mistakes),
			),
		trouble,
		foot,
	);
}

/** @param {Job} job @param {JobReport["label_issues"][number]} image @param {string[]} classes
 *  @param {Corrections} corrections @param {() => void} changed @param {AbortSignal} signal */
function issue(job, image, classes, corrections, changed, signal) {
	const { position, class_name: label, predicted, probability, file_name: file } = image;
	const name = file ?? `image ${position}`;
	const choices = h("div", { class: "row" });
	const others = classes.filter((entry) => entry !== label && entry !== predicted);
	const select = h(
		"select",
		{ class: "small", "aria-label": `Move ${name} to another class`, onchange: () => decide("moved", select.value) },
		h("option", { value: "" }, "Move to …"),
		others.map((entry) => h("option", { value: entry }, entry)),
	);
	const choice = (text, act) => button([text, unseen(` ${name}`)], act, "quiet small");
	const initial = [
		choice("It's right", () => decide("confirmed", "")),
		classes.includes(predicted) && choice(`Move to ${predicted}`, () => decide("moved", predicted)),
		others.length > 0 && select,
		choice("Remove", () => decide("removed", "")),
	];
	/** Show the decision, if there is one. Returns its words. */
	function draw() {
		const decision = corrections.get(position);
		if (!decision) {
			replace(choices, initial);
			return "";
		}
		const { kind, to } = decision;
		const words = { moved: `Label changed to ${to}.`, removed: "Image left out.", confirmed: "Label confirmed." }[kind];
		replace(choices, h("span", { class: "decided" }, words), choice("Undo", restore));
		return words;
	}
	/** @param {"moved" | "removed" | "confirmed"} kind @param {string} to */
	function decide(kind, to) {
		corrections.set(position, { kind, to });
		announce(draw());
		choices.querySelector("button")?.focus(); // the pressed button is gone
		changed();
	}
	function restore() {
		corrections.delete(position);
		select.value = "";
		draw();
		choices.querySelector("button")?.focus();
		changed();
	}
	draw();
	const strong = (text) => h("strong", {}, text);
	const words = ["Labelled ", strong(label), ", looks like ", strong(predicted), ` (${percent(probability)})`];
	const picture = storedImage(job.id, position, { alt: `${name}, labelled ${label}`, signal });
	return h("li", {}, picture, h("div", {}, h("p", {}, words), choices));
}
