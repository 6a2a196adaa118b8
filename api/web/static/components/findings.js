// The service's own look at the images before anything is learnt.

import { h, replace } from "../lib/dom.js";
import { upload } from "../lib/http.js";
import { count, duration } from "../lib/words.js";

const MOST_BYTES = 200_000_000; // more is not sent twice

let running = { controller: new AbortController(), fingerprint: "" };

/** End the check that is under way, if one is. */
export function stopCheck() {
  running.controller.abort();
}

/** Ask for verdicts on all images, note them on each, and say the rest in `box`. */
export async function checkWithService(shots, config, box, leaving) {
  const fingerprint = shots.fingerprint(config);
  if (shots.checked === fingerprint) return;
  if (running.fingerprint === fingerprint && !running.controller.signal.aborted) return;
  stopCheck();
  const own = { controller: new AbortController(), fingerprint };
  running = own;
  const signal = AbortSignal.any([own.controller.signal, leaving]);
  replace(box);
  try {
    if (shots.missing || shots.bytes > MOST_BYTES) return;
    const { form, files } = shots.form({ config });
    replace(box, h("p", { class: "soft" }, "The service is looking at the images …"));
    const found = await upload("/adapt?dry_run=true", form, { signal });
    shots.checked = fingerprint;
    shots.mark(found.findings, files, (finding) => (finding.class_name === null ? "bad" : "note"));
    replace(box, summary(found));
  } catch (error) {
    if (error.name === "AbortError") {
      if (running === own) replace(box);
      return;
    }
    if (error.errors?.length) replace(box, h("p", { class: "soft" }, error.message));
    else replace(box); // what is wrong will be said at the start
  } finally {
    own.controller.abort(); // it is over: the same may be asked again
  }
}

function summary({ images, good, warnings, estimate }) {
  const { seconds, low_seconds: low, high_seconds: high } = estimate;
  const time = seconds === null ? "" : ` Learning takes about ${duration(seconds)}${high > 1.5 * low ? ` (${duration(low)} to ${duration(high)})` : ""}.`;
  return [
    h("p", {}, h("strong", {}, good === images ? `All ${count(images, "image")} look good.` : `${good} of ${count(images, "image")} look good.`), time),
    warnings.length > 0 && h("ul", { class: "soft" }, warnings.map((warning) => h("li", {}, warning.detail))),
  ];
}
