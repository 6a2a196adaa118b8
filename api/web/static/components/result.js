// What came of a job: the verdict in words, the measurement as an image, and the ways on.

import { askLines, codeFor, curl, python } from "./code.js";
import { h, replace } from "../lib/dom.js";
import { download, key } from "../lib/http.js";
import { measurement } from "./evaluation.js";
import { problemBox } from "../lib/problem.js";
import { count, percent, points } from "../lib/words.js";

const HEADLINES = {
  better: ["Better than before", "good"],
  no_clear_gain: ["No clear gain", "open"],
  worse: ["Worse than before", "poor"],
  not_measured: ["Ready, but not measured", "open"],
};

const FEW = 20; // test images, below which an interval is some 40 points wide

export function resultPanel(job) {
  const verdict = job.metrics?.verdict ?? "not_measured";
  const [headline, mood] = HEADLINES[verdict] ?? [verdict.replaceAll("_", " "), "open"];
  const trouble = h("div", {});
  const save = () => download(`/models/${job.model_id}/export`, `${job.name ?? job.model_id}.zip`).catch((error) => replace(trouble, problemBox(error)));
  const links = h(
    "div",
    { class: "row" },
    h("a", { class: "button main", href: `#/try/${job.model_id}` }, "Try it"),
    reportLink(`/jobs/${job.id}/report`),
    h("button", { type: "button", class: "quiet", onclick: save }, "Download the model"),
  );
  const known = job.classes.filter((of) => of.images).map((of) => of.name);
  return h(
    "div",
    { class: `card result ${mood}` },
    h("h2", {}, headline),
    h("p", {}, explained(verdict, job)),
    job.metrics && measurement(job.metrics),
    job.warnings.length > 0 &&
      h("details", { class: "plain" }, h("summary", {}, count(job.warnings.length, "remark")), h("ul", {}, job.warnings.map((w) => h("li", {}, w.detail)))),
    links,
    trouble,
    classifyCode(job.model_id, known),
  );
}

const ASKED = {
  test: (images) => `On ${images} for testing it was`,
  holdout: (images) => `On ${images} that were kept from it it was`,
  cross_validation: (images) => `On ${images} that were kept from it a sibling of it was`,
};

/** What was compared for the verdict: all names at once. */
function compared(metrics) {
  return metrics?.all_classes?.all ?? metrics?.trained_classes;
}

function explained(verdict, { metrics, config }) {
  const found = compared(metrics);
  if (verdict === "not_measured" || !found) {
    if (config.evaluate === "none") return "It was not to be measured, so nobody can say how much better it is. Try it on images that it has not seen.";
    return "There were too few images to keep some back, so nobody can say how much better it is. Try it on images that it has not seen, or teach it again with more.";
  }
  const { stock, adapted, difference } = found;
  const { images, source } = metrics.measured_on;
  const facts = `${(ASKED[source] ?? ASKED.holdout)(count(images, "image"))} right in ${percent(adapted)}, the network before in ${percent(stock)}.`;
  if (verdict === "no_clear_gain" && images < FEW) {
    return `${facts} ${count(images, "image is", "images are")} too few to tell a gain from chance. Bring more to test on, or more to learn from.`;
  }
  const range = `The true difference lies between ${points(difference.low)} and ${points(difference.high)} points, with 95 % certainty`;
  if (verdict === "better") return `${facts} ${range}: that is more than chance.`;
  if (verdict === "worse") return `${facts} ${range}. Use the network as it was, or look whether some labels are wrong.`;
  return `${facts} ${range}: it could be chance. More images to test on make it clearer; more to learn from may make it better.`;
}

function reportLink(path) {
  // A link can't send the key; with one the report is saved and opened from there.
  if (!key.get()) return h("a", { class: "button quiet", href: path, target: "_blank", rel: "noopener" }, "Full report");
  return h("button", { type: "button", class: "quiet", onclick: () => download(path, "report.html", { Accept: "text/html" }) }, "Full report");
}

function classifyCode(model, names) {
  return codeFor({
    what: "ask this model",
    curl: () => curl("/classify", [["-F", `model=${model}`], ["-F", `class_names=${JSON.stringify(names)}`], ["-F", "images=@image.jpg"]]),
    python: () => python(askLines({ class_names: names, model })),
  });
}

/** A verdict in two words, for lists. */
export function verdictTag(metrics) {
  const [words, mood] = HEADLINES[metrics?.verdict ?? "not_measured"] ?? ["", "open"];
  const found = compared(metrics);
  const gain = found ? ` ${points(found.difference.value)}` : "";
  return h("span", { class: `tag ${mood}` }, metrics?.verdict === "not_measured" ? "Not measured" : words + gain);
}
