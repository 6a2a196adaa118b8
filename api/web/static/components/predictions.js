// Card with the predictions for one image, before and now.

import { h, replace } from "../lib/dom.js";
import { percent } from "../lib/words.js";

const SHOWN = 4;
const MIN_PROBABILITY = 0.5;
const MIN_LEAD = 0.15;

/** Return true if the best probability, or its lead over the second, is too small. */
export function isUnsure(predictions) {
  const [first, second] = predictions;
  return first.probability < MIN_PROBABILITY || first.probability - (second?.probability ?? 0) < MIN_LEAD;
}

/** Return true for an image outside all trained classes. The score exists only for calibrated models
 *  and requests with exactly the trained classes. */
function isRejected({ in_distribution_score }, { calibration }) {
  return typeof in_distribution_score === "number" && in_distribution_score < calibration.rejection_threshold;
}

export function predictionCard(image, remove) {
  const thumb = h("img", { alt: image.name, width: "96", height: "96", hidden: true });
  const name = h("p", { class: "file soft" }, image.name);
  const body = h("div", { class: "bars" });
  const element = h(
    "li",
    { class: "card answer" },
    h("div", { class: "shot" }, thumb, h("button", { type: "button", class: "x", "aria-label": `Remove ${image.name}`, title: "Remove", onclick: remove }, "×")),
    h("div", { class: "what" }, name, body),
  );
  /** Redraw after the image check. */
  function refresh() {
    if (image.url && thumb.hidden) {
      thumb.src = image.url;
      thumb.hidden = false;
    }
    if (image.problem?.level === "bad") replace(body, h("p", { class: "bad-text" }, image.problem.detail));
  }

  /** Show the results `now` and `before`; `response` is the whole response that contains `now`. */
  function show(now, before, response) {
    if (now.error) {
      replace(body, h("p", { class: "bad-text" }, now.error.detail));
      return;
    }
    const old = before?.predictions;
    const none = isRejected(now, response);
    replace(
      body,
      old && h("div", { class: "columns" }, column(old, { title: "Before", past: true }), column(now.predictions, { title: "Now", none, changed: old[0].class_name !== now.predictions[0].class_name })),
      !old && column(now.predictions, { none }),
    );
  }
  return { element, refresh, show };
}

function column(predictions, { title, past = false, changed = false, none = false }) {
  const unsure = isUnsure(predictions);
  return h(
    "div",
    { class: past && "past" },
    title && h("h2", { class: "minor" }, title),
    h(
      "p",
      { class: "best" },
      h("strong", {}, predictions[0].class_name),
      none && h("span", { class: "tag poor" }, "like none of these"),
      unsure && h("span", { class: "tag open" }, "unsure"),
      changed && h("span", { class: "tag good" }, "changed"),
    ),
    h("ol", { class: "shares" }, predictions.slice(0, SHOWN).map((prediction) => bar(prediction, past))),
  );
}

function bar({ class_name: name, kind, probability }, past) {
  return h(
    "li",
    { class: kind },
    h("span", { class: "share-name" }, h("span", {}, name), kind === "new" && !past && h("span", { class: "tag new" }, "new")),
    h("span", { class: "share" }, percent(probability)),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${100 * probability}%` } })),
  );
}
