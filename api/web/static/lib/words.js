// Human-readable numbers, times and states.

/** @type {Record<string, string>} */
export const STAGES = {
	preparing: "Preparing",
	training: "Training",
	publishing: "Publishing",
	evaluating: "Evaluating",
};

const NEARLY_SECONDS = 3;
// Rounds as Python does, so that the page and the report have the same numbers.
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0, roundingMode: "halfEven" });

/** @type {Record<Job["status"], string>} */
export const STATUSES = {
	queued: "Queued",
	running: "Training",
	succeeded: "Ready",
	failed: "Failed",
	cancelled: "Cancelled",
};

/** Statuses of a job that has ended. */
export const FINAL = ["succeeded", "failed", "cancelled"];

/** @param {number} number @param {string} singular */
export function count(number, singular, plural = `${singular}s`) {
	return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

/** @param {number} fraction */
export function percent(fraction) {
	return `${WHOLE.format(100 * fraction)}%`;
}

/** Format the probability of a rough preview, which is never certain. @param {number} fraction */
export function roughPercent(fraction) {
	return percent(Math.min(0.99, fraction));
}

/** Format a difference of two fractions in percentage points, with its sign. @param {number} difference */
export function points(difference) {
	const rounded = Number(WHOLE.format(100 * difference));
	return `${rounded > 0 ? "+" : rounded < 0 ? "−" : "±"}${Math.abs(rounded)}`;
}

/** @param {number} seconds */
export function duration(seconds) {
	if (seconds < 1.5) return "1 second";
	if (seconds < 90) return `${Math.round(seconds)} seconds`;
	if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
	return `${(seconds / 3600).toFixed(1)} hours`;
}

/** Return how long this machine trains on so many photos with a row of GET /backbones; empty if unknown.
 *
 *  @param {Backbone} row @param {number} photos */
export function timeToTrain({ seconds_per_100_images: seconds, seconds_measured: measured }, photos) {
	if (!seconds) return "";
	return `about ${duration((seconds * photos) / 100)} for ${count(photos, "photo")} on this machine, ${measured ? "by a test of its speed" : "guessed"}`;
}

/** Return the remaining time of a job in words. `text` is empty while it is unknown, and `eta` has words for the report
 *  alone, during the evaluation.
 *
 *  @param {string} stage @param {number | null | undefined} toModel seconds @param {number | null | undefined} toEnd seconds */
export function timeLeft(stage, toModel, toEnd) {
	/** @param {number} seconds */
	const soon = (seconds) => (seconds < NEARLY_SECONDS ? " almost done" : ` in about ${duration(seconds)}`);
	if (stage === "evaluating") {
		const eta = typeof toEnd !== "number" ? "" : toEnd < NEARLY_SECONDS ? " in a moment" : soon(toEnd);
		return { text: eta && `Report${eta}`, eta };
	}
	if (typeof toModel !== "number") return { text: "", eta: "" };
	const report = (toEnd ?? 0) - toModel;
	const later = report >= NEARLY_SECONDS ? ` · report ${duration(report)} later` : "";
	return { text: `Model${soon(toModel)}${later}`, eta: "" };
}

/** Format a range of durations in one unit: "7–28 minutes". @param {number} low @param {number} high */
export function durationRange(low, high) {
	const [seconds, unit, digits] = high < 90 ? [1, "seconds", 0] : high < 5400 ? [60, "minutes", 0] : [3600, "hours", 1];
	const number = (value) => Math.max(10 ** -digits, value / seconds).toFixed(digits);
	return `${number(low)}–${number(high)} ${unit}`;
}

/** @param {number} bytes */
export function size(bytes) {
	if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
	return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/** @param {string} time */
export function when(time) {
	return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** @param {Pick<Progress, "stage" | "doing">} progress */
export function stageWords(progress) {
	return progress.doing || (STAGES[progress.stage] ?? progress.stage);
}

/** Join names: "a", "a and b", "a, b and 3 more". @param {string[]} names */
export function list(names, max = 3) {
	if (names.length > max) return `${names.slice(0, max).join(", ")} and ${names.length - max} more`;
	if (names.length < 2) return names.join("");
	return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Return the parts of a text that someone typed, without empty ones. @param {string} text @param {string | RegExp} [separator] */
export function partsOf(text, separator = "\n") {
	return text
		.split(separator)
		.map((part) => part.trim())
		.filter(Boolean);
}
