// Numbers, times and states as people say them.

export const STAGES = {
  preparing: "Getting ready",
  loading: "Loading the network",
  training: "Learning",
  evaluating: "Measuring how good it is",
  cross_validating: "Looking for wrong labels",
  saving: "Saving",
  publishing: "Saving",
};

export const STATUSES = {
  queued: "Waiting",
  running: "Learning",
  succeeded: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
};

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** A difference of two shares, in points. */
export function points(difference) {
  const rounded = Math.round(100 * difference);
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : "±"}${Math.abs(rounded)}`;
}

export function duration(seconds) {
  if (seconds < 1.5) return "a second";
  if (seconds < 90) return `${Math.round(seconds)} seconds`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return `${(seconds / 3600).toFixed(1)} hours`;
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
  const rounds = progress.stage === "training" && progress.epochs;
  return rounds ? `${name}, round ${Math.min(progress.epoch, progress.epochs)} of ${progress.epochs}` : name;
}

/** "a", "a and b", "a, b and 3 more". */
export function list(names, most = 3) {
  if (names.length > most) return `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
