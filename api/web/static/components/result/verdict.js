// The verdict of an evaluation, and its comparison with the version before.

import { h } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { percent } from "../../lib/words.js";

/** Return the comparison behind the verdict: all classes as candidates. @param {Metrics | null | undefined} metrics */
export function comparisonOf(metrics) {
	return metrics?.all_classes?.all ?? metrics?.trained_classes ?? null;
}

/** Return {kind, title, mood}. @param {Metrics | null | undefined} metrics */
export function verdictOf(metrics) {
	const kind = metrics?.verdict ?? "not_evaluated";
	const title = metrics?.sentences?.[0].slice(0, -1) ?? "Ready, not evaluated";
	return { kind, title, mood: kind === "better" ? "good" : kind === "evaluating" ? "busy" : "open" };
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
 *  @param {Metrics} metrics
 *  @param {{ metrics?: Metrics | null, version?: number | null } | null} before
 *  @returns {Child} */
export function earlierVersion(metrics, before) {
	const now = comparisonOf(metrics);
	const comparison = comparisonOf(before?.metrics);
	if (!before || !comparison || !now) return "";
	const { adapted, interval } = now;
	const name = before.version ? `Version ${before.version}` : "Before";
	// An estimate by models with half of the photos is too low beside a number of test images.
	if (before.metrics?.measured_on.source !== metrics.measured_on.source)
		return `${name} was measured in another way, so its ${percent(comparison.adapted)} can't be compared. Evaluate both with the same images.`;
	return [
		`${name}: ${percent(comparison.adapted)}${inBrackets(comparison.interval)}. This version: `,
		h("strong", {}, percent(adapted)),
		`${inBrackets(interval)}.`,
	];
}

/** @param {number[] | null} [interval] Models of old versions have none. */
const inBrackets = (interval) => (interval ? ` (${likely(interval)})` : "");

/** Return the 95% confidence interval of an accuracy: "likely 65 to 94". @param {number[]} interval */
export function likely([low, high]) {
	return `likely ${percent(low).slice(0, -1)} to ${percent(high).slice(0, -1)}`;
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
