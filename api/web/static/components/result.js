// Result of a job: verdict, evaluation chart, links.

import { classifyLines, codeFor, curl, python } from "./code.js";
import { h, replace } from "../lib/dom.js";
import { download, key } from "../lib/http.js";
import { evaluationChart } from "./evaluation.js";
import { problemBox } from "../lib/problem.js";
import { count, percent, points } from "../lib/words.js";

const HEADLINES = {
  better: ["Better", "good"],
  no_clear_gain: ["No clear gain", "open"],
  worse: ["Worse", "poor"],
  not_evaluated: ["Ready, not evaluated", "open"],
};

const MIN_TEST_IMAGES = 20; // with fewer, the 95% interval is about 40 points wide

export function resultPanel(job) {
  const verdict = job.metrics?.verdict ?? "not_evaluated";
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
  const trainedClasses = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
  return h(
    "div",
    { class: `card result ${mood}` },
    h("h2", {}, headline),
    h("p", {}, explained(verdict, job)),
    job.metrics && evaluationChart(job.metrics),
    job.warnings.length > 0 &&
      h("details", { class: "plain" }, h("summary", {}, count(job.warnings.length, "warning")), h("ul", {}, job.warnings.map((warning) => h("li", {}, warning.detail)))),
    links,
    trouble,
    classifyCode(job.model_id, trainedClasses),
  );
}

const EVALUATED_ON = {
  test: (images) => `on ${count(images, "test image")}`,
  holdout: (images) => `on ${count(images, "held-out image")}`,
  cross_validation: (images) => `in cross-validation on ${count(images, "image")}`,
};

/** Return the comparison behind the verdict: all classes as candidates. */
function verdictComparison(metrics) {
  return metrics?.all_classes?.all ?? metrics?.trained_classes;
}

function explained(verdict, { metrics, config }) {
  const comparison = verdictComparison(metrics);
  if (verdict === "not_evaluated" || !comparison) {
    if (config.evaluate === "none") return "Evaluation was turned off. Try the model on images that weren't used for training.";
    return "There are too few images for an evaluation. Try the model on new images, or add images and train again.";
  }
  const { stock, adapted, difference } = comparison;
  const { images, source } = metrics.measured_on;
  const trend = adapted > stock ? "up from" : adapted < stock ? "down from" : "unchanged from";
  const facts = `${percent(adapted)} correct ${(EVALUATED_ON[source] ?? EVALUATED_ON.holdout)(images)}, ${trend} ${percent(stock)} before training.`;
  if (verdict === "no_clear_gain" && images < MIN_TEST_IMAGES) {
    return `${facts} ${count(images, "image is", "images are")} too few to tell a gain from chance. Add test images or training images.`;
  }
  const range = `95% confidence interval of the change: ${points(difference.low)} to ${points(difference.high)} points.`;
  if (verdict === "better") return `${facts} ${range}`;
  if (verdict === "worse") return `${facts} ${range} Use the pre-trained model, or check the labels.`;
  return `${facts} ${range} The change may be chance. Test images narrow the interval; training images may improve the model.`;
}

function reportLink(path) {
  // A link can't send the key, so with a key the report is downloaded.
  if (!key.get()) return h("a", { class: "button quiet", href: path, target: "_blank", rel: "noopener" }, "Full report");
  return h("button", { type: "button", class: "quiet", onclick: () => download(path, "report.html", { Accept: "text/html" }) }, "Full report");
}

function classifyCode(model, names) {
  return codeFor({
    what: "classify with this model",
    curl: () => curl("/classify", [["-F", `model=${model}`], ["-F", `class_names=${JSON.stringify(names)}`], ["-F", "images=@image.jpg"]]),
    python: () => python(classifyLines({ class_names: names, model })),
  });
}

/** Create a short verdict for lists. */
export function verdictTag(metrics) {
  const [headline, mood] = HEADLINES[metrics?.verdict ?? "not_evaluated"] ?? ["", "open"];
  const comparison = verdictComparison(metrics);
  const gain = comparison ? ` ${points(comparison.difference.value)}` : "";
  return h("span", { class: `tag ${mood}` }, metrics?.verdict === "not_evaluated" ? "Not evaluated" : headline + gain);
}
