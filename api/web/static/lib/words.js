// Human-readable numbers, times and states.

export const STAGES = {
  preparing: "Preparing",
  training: "Training",
  publishing: "Publishing",
  evaluating: "Evaluating",
};

export const STATUSES = {
  queued: "Queued",
  running: "Training",
  succeeded: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
};

export function count(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

export function percent(fraction) {
  return `${Math.round(100 * fraction)}%`;
}

/** Format the probability of a rough preview, which is never certain. */
export function roughPercent(fraction) {
  return percent(Math.min(0.99, fraction));
}

/** Format a difference of two fractions in percentage points, with its sign. */
export function points(difference) {
  const rounded = Math.round(100 * difference);
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : "±"}${Math.abs(rounded)}`;
}

export function duration(seconds) {
  if (seconds < 1.5) return "1 second";
  if (seconds < 90) return `${Math.round(seconds)} seconds`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return `${(seconds / 3600).toFixed(1)} hours`;
}

/** Format a range of durations in one unit: "7–28 minutes". */
export function durationRange(low, high) {
  const [seconds, unit, digits] = high < 90 ? [1, "seconds", 0] : high < 5400 ? [60, "minutes", 0] : [3600, "hours", 1];
  const number = (value) => Math.max(10 ** -digits, value / seconds).toFixed(digits);
  return `${number(low)}–${number(high)} ${unit}`;
}

export function size(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

export function when(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function stageWords(progress) {
  const name = STAGES[progress.stage] ?? progress.stage;
  const epochs = progress.stage === "training" && progress.epochs;
  return epochs ? `${name}, epoch ${Math.min(progress.epoch, progress.epochs)} of ${progress.epochs}` : name;
}

/** Join names: "a", "a and b", "a, b and 3 more". */
export function list(names, max = 3) {
  if (names.length > max) return `${names.slice(0, max).join(", ")} and ${names.length - max} more`;
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
