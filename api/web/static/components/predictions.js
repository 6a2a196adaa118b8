// The answer for one image: names with their shares, before and now.

import { h, replace } from "../lib/dom.js";
import { percent } from "../lib/words.js";

const SHOWN = 4;
const SURE = 0.5;
const LEAD = 0.15;

/** The rule behind "unsure": too small a share, or too small a lead. */
export function isUnsure(predictions) {
  const [first, second] = predictions;
  return first.probability < SURE || first.probability - (second?.probability ?? 0) < LEAD;
}

/** Whether it looks like none of the names: known only where the model was measured on enough images, and is
 *  asked for exactly its own names. */
function fitsNone({ in_distribution_score }, { calibration }) {
  return typeof in_distribution_score === "number" && in_distribution_score < calibration.rejection_threshold;
}

export function answerCard(image, remove) {
  const image = h("img", { alt: image.name, width: "96", height: "96", hidden: true });
  const name = h("p", { class: "file soft" }, image.name);
  const body = h("div", { class: "bars" });
  const element = h(
    "li",
    { class: "card answer" },
    h("div", { class: "shot" }, image, h("button", { type: "button", class: "x", "aria-label": `Remove ${image.name}`, title: "Remove", onclick: remove }, "×")),
    h("div", { class: "what" }, name, body),
  );
  /** Once the browser has looked at the image. */
  function refresh() {
    if (image.url && image.hidden) {
      image.src = image.url;
      image.hidden = false;
    }
    if (image.problem?.level === "bad") replace(body, h("p", { class: "bad-text" }, image.problem.detail));
  }

  /** `now` and `before` are results; `answer` is what `now` is from. */
  function show(now, before, answer) {
    if (now.error) {
      replace(body, h("p", { class: "bad-text" }, now.error.detail));
      return;
    }
    const old = before?.predictions;
    const none = fitsNone(now, answer);
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
    h("ol", { class: "shares" }, predictions.slice(0, SHOWN).map((guess) => bar(guess, past))),
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
