// The verdict of an evaluation in words.

import { h } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { count, percent, points } from "../../lib/words.js";

/** @type {Record<Metrics["verdict"], [title: string, mood: "good" | "open" | "busy"]>} */
const VERDICTS = {
	better: ["Better", "good"],
	probably_better: ["Probably better", "open"],
	no_clear_gain: ["No measurable difference", "open"],
	probably_worse: ["Probably worse", "open"],
	worse: ["Worse", "open"],
	evaluating: ["Ready, evaluating", "busy"],
	not_evaluated: ["Ready, not evaluated", "open"],
};

/** @param {Schemas["MeasuredOn"]} measured */
function evaluatedOn({ source, images, trained_images: trained }) {
	if (source === "test") return ` on your ${count(images, "test image")}`;
	return `, estimated from ${images === trained ? "" : `${images.toLocaleString("en")} of `}your ${count(trained, "training image")}`;
}

/** Return the comparison behind the verdict: all classes as candidates. @param {Metrics | null | undefined} metrics */
export function comparisonOf(metrics) {
	return metrics?.all_classes?.all ?? metrics?.trained_classes ?? null;
}

/** Return {kind, title, mood}. @param {Metrics | null | undefined} metrics */
export function verdictOf(metrics) {
	const kind = metrics?.verdict ?? "not_evaluated";
	const [title, mood] = VERDICTS[kind];
	return { kind, title, mood };
}

/** Return the sentences below the title. `report` may be null while it loads.
 *
 *  @param {Job} job @param {JobReport | null} report */
export function explained(job, report) {
	const { metrics } = job;
	const { kind } = verdictOf(metrics);
	if (kind === "evaluating") return "The report follows.";
	const comparison = comparisonOf(metrics);
	if (kind === "not_evaluated" || !metrics || !comparison) return notEvaluated(job);
	const { stock, adapted, interval } = comparison;
	const { images } = metrics.measured_on;
	const trend = adapted > stock ? "up from" : adapted < stock ? "down from" : "unchanged from";
	const facts = `${percent(adapted)} correct${interval ? ` (${likely(interval)})` : ""}${evaluatedOn(metrics.measured_on)}, ${trend} ${percent(stock)}.`;
	// The interval counts only images whose prediction changed. The verdict counts all.
	if (
		kind === "better" &&
		comparison.difference &&
		comparison.difference.low <= 0 &&
		typeof report?.more_certain === "number"
	)
		return `${facts} It is more certain of the right class on ${report.more_certain} of ${count(images, "image")}.`;
	return facts;
}

/** Return a sentence on the accuracy with further names; empty without such an evaluation, or if the verdict has them.
 *
 *  @param {JobReport} report */
export function otherNames({ all_classes: all, new_classes: others, distractor_classes: names }) {
	if (!all?.adapted_against_stock || !all.adapted || !all.stock || !names.length || others) return "";
	const { low, high } = all.adapted_against_stock;
	const proven = low > 0 || high < 0;
	return `With ${count(names.length, "further name")} to choose from, such as ${names[0]}, ${percent(all.adapted.value)} are correct; before the training, ${percent(all.stock.value)} were${proven ? "" : " (the change is not proven)"}.`;
}

/** Return the version of a job's model before this one; null without one.
 *
 *  @param {Job & { model_id: string }} job @param {AbortSignal} signal */
export async function versionBefore(job, signal) {
	const { name, version } = await requestJson(`/models/${encodeURIComponent(job.model_id)}`, { signal });
	return name && version && version > 1
		? requestJson(`/models/${encodeURIComponent(`${name}@${version - 1}`)}`, { signal })
		: null;
}

/** Return a sentence on the version before this one; empty without one. Each was evaluated on its own images.
 *
 *  @param {Schemas["ComparedAccuracies"]} comparison
 *  @param {{ metrics?: Metrics | null, version?: number | null } | null} before
 *  @returns {Child} */
export function earlierVersion({ adapted, interval }, before) {
	const comparison = comparisonOf(before?.metrics);
	if (!before || !comparison) return "";
	const range = (ends) => (ends ? ` (${likely(ends)})` : "");
	return [
		`${before.version ? `Version ${before.version}` : "Before"}: ${percent(comparison.adapted)}${range(comparison.interval)}. This version: `,
		h("strong", {}, percent(adapted)),
		`${range(interval)}.`,
	];
}

/** @param {Job} job */
function notEvaluated({ config, warnings }) {
	if (config.evaluate === "none") return "Evaluation was turned off.";
	const reason = warnings.find(({ code }) => code === "evaluation_cancelled" || code === "evaluation_failed");
	return reason?.detail ?? "There are too few images for an evaluation.";
}

/** Return the 95% confidence interval of an accuracy: "likely 65 to 94". @param {number[]} interval */
export function likely([low, high]) {
	return `likely ${percent(low).slice(0, -1)} to ${percent(high).slice(0, -1)}`;
}

/** Return the 95% confidence interval of the change as a sentence. @param {Schemas["Interval"]} interval */
export function changeInterval({ low, high }) {
	return `True change: ${points(low)} to ${points(high)} points (95% confidence).`;
}

/** Create a short verdict for lists. @param {Metrics | null} metrics */
export function verdictTag(metrics) {
	const { kind, title, mood } = verdictOf(metrics);
	const comparison = comparisonOf(metrics);
	const hasNumbers = comparison && kind !== "evaluating" && kind !== "not_evaluated";
	const numbers = hasNumbers ? ` ${percent(comparison.stock)} → ${percent(comparison.adapted)}` : "";
	return h(
		"span",
		{ class: `tag ${mood}` },
		kind === "not_evaluated" ? "Not evaluated" : kind === "evaluating" ? "Evaluating" : title + numbers,
	);
}
