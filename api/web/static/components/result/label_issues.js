// Doubtful labels, corrected here; the job's stored images are then trained again.

import { announce, h, replace } from "../../lib/dom.js";
import { problemBox } from "../../lib/problem.js";
import { retrain } from "../../lib/training/retrain.js";
import { newKey } from "../../lib/ids.js";
import { count, percent } from "../../lib/words.js";
import { storedImage } from "../stored_image.js";

/** Create the list of label issues and wrong predictions; null if there are none. */
export function labelIssues({ job, report, classes, signal }) {
  const issues = report.label_issues;
  const doubted = new Set(issues.map(({ position }) => position));
  const mistakes = report.mistakes.filter(({ position }) => !doubted.has(position));
  if (!issues.length && !mistakes.length) return null;

  const corrections = new Map(); // position: {kind, to}
  const trouble = h("div", {});
  const summary = h("p", { role: "status" });
  const start = h("button", { type: "button", class: "main", onclick: begin }, "Retrain");
  const foot = h("div", { class: "go retrain", hidden: true }, start, summary);
  const key = newKey();

  function changed() {
    const of = (kind) => [...corrections.values()].filter((correction) => correction.kind === kind).length;
    const parts = [
      of("moved") && `${count(of("moved"), "label")} changed`,
      of("removed") && `${count(of("removed"), "image")} removed`,
      of("confirmed") && `${count(of("confirmed"), "label")} confirmed`,
    ].filter(Boolean);
    foot.hidden = !parts.length;
    summary.textContent = parts.length ? `${parts.join(", ")}. Retraining uses the stored images.` : "";
  }
  async function begin() {
    const moved = {};
    for (const [position, { kind, to }] of corrections) if (kind === "moved") moved[position] = to;
    const positions = (kind) => [...corrections].filter(([, correction]) => correction.kind === kind).map(([position]) => position);
    start.disabled = true;
    replace(trouble);
    try {
      const changes = { moved, removed: positions("removed"), confirmed: positions("confirmed") };
      // The same corrections get the same key, so that a retry after a lost response creates no second job.
      const id = await retrain(job.id, changes, { key: key(changes), signal });
      location.hash = `#/jobs/${encodeURIComponent(id)}`;
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
      start.disabled = false;
    }
  }
  const rows = (images) => h("ul", { class: "issues" }, images.map((image) => issue(job, image, classes, corrections, changed, signal)));
  return h(
    "details",
    { class: "card labels", open: issues.length > 0 },
    h("summary", {}, h("h2", {}, issues.length ? count(issues.length, "label issue") : "Check labels")),
    issues.length > 0 && [h("p", { class: "soft" }, "Models that never saw these images predict another class. A wrong label costs more than a missing image."), rows(issues)],
    mistakes.length > 0 && h("details", { class: "plain", open: !issues.length }, h("summary", {}, count(mistakes.length, "wrong prediction")), rows(mistakes)),
    trouble,
    foot,
  );
}

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
  const button = (text, act) => h("button", { type: "button", class: "quiet small", onclick: act }, text, h("span", { class: "unseen" }, ` ${name}`));
  const initial = [
    classes.includes(predicted) && button(`Move to ${predicted}`, () => decide("moved", predicted)),
    others.length > 0 && select,
    button("Remove", () => decide("removed")),
    button("It's right", () => decide("confirmed")),
  ];
  const SENTENCES = { moved: (to) => `Label changed to ${to}.`, removed: () => "Image left out.", confirmed: () => "Label confirmed." };
  function decide(kind, to) {
    corrections.set(position, { kind, to });
    const undo = button("Undo", restore);
    replace(choices, h("span", { class: "decided" }, SENTENCES[kind](to)), undo);
    undo.focus(); // the pressed button is gone
    announce(SENTENCES[kind](to));
    changed();
  }
  function restore() {
    corrections.delete(position);
    select.value = "";
    replace(choices, initial);
    choices.querySelector("button").focus();
    changed();
  }
  replace(choices, initial);
  return h(
    "li",
    {},
    storedImage(job.id, position, { alt: `${name}, labelled ${label}`, signal }),
    h("div", {}, h("p", {}, "Labelled ", h("strong", {}, label), ", looks like ", h("strong", {}, predicted), ` (${percent(probability)})`), choices),
  );
}
