// Result of a job: the user's own images before and after training, the verdict, and the next step.

import { classifyPrograms, codeFor } from "../code.js";
import { comparedModels, trainAgainRow } from "../clip/again.js";
import { h, replace } from "../../lib/dom.js";
import { call, download, key, requestJson } from "../../lib/service/http.js";
import { evaluationChart } from "./evaluation.js";
import { labelIssues } from "./label_issues.js";
import { moreImages } from "./more_images.js";
import { newClass } from "./new_class.js";
import { problemBox } from "../../lib/problem.js";
import { shareModel } from "./share.js";
import { changeStrip } from "./strip.js";
import { tip } from "../tip.js";
import { changeInterval, comparisonOf, earlierVersion, explained, likely, otherNames, verdictOf, versionBefore } from "./verdict.js";
import { count, percent, points } from "../../lib/words.js";

/** Create the panel of a job that has a model. `eta` is an element with the time until the report. */
export function resultPanel(job, { eta, signal }) {
  const { kind, title, mood } = verdictOf(job.metrics);
  const evaluated = kind !== "evaluating" && kind !== "not_evaluated";
  const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
  const comparison = comparisonOf(job.metrics);
  const trouble = h("div", {});
  const sentence = h("p", {}, kind === "evaluating" ? ["You can use it now. The report follows", eta, "."] : explained(job, null));
  const strip = h("div", { class: "strip-box" });
  const others = h("p", { hidden: true });
  const earlier = h("p", { hidden: true });
  const labels = h("div", {});
  const extra = h("div", {});
  const failed = (error) => error.name !== "AbortError" && replace(trouble, problemBox(error));

  const link = (text, href, main) => h("a", { class: main ? "button main" : "button quiet", href }, text);
  const button = (text, onclick, main) => h("button", { type: "button", class: main ? "main" : "quiet", onclick }, text);
  const tryIt = (text, main = false) => link(text, `#/try/${encodeURIComponent(job.model_id)}`, main);
  const add = (text, split, main = false) =>
    button(text, () => {
      replace(extra, moreImages(job, trained, split));
      extra.firstChild.scrollIntoView({ block: "nearest" });
    }, main);
  const checkLabels = async () => {
    await reported; // with the labels
    labels.firstChild?.setAttribute("open", "");
    labels.scrollIntoView();
    labels.querySelector("summary, button")?.focus({ preventScroll: true });
  };
  const unproven = () => [add("Add test images", "test", true), add("Add images", "train"), tryIt("Try it")];
  const notBetter = () => [button("Check labels", checkLabels, true), link("Use the pre-trained model", "#/try/stock"), tryIt("Try it")];
  const actions = {
    better: () => [tryIt("Use it", true)],
    probably_better: unproven,
    no_clear_gain: comparison?.difference.value > 0 ? unproven : notBetter,
    probably_worse: notBetter,
    worse: notBetter,
    evaluating: () => [tryIt("Try it", true)],
    not_evaluated: () => [add("Add test images", "test", true), tryIt("Try it")],
  }[kind]();
  const share = button("Share", () => shareModel({ job }).catch(failed));
  const save = button("Download", () => download(`/models/${encodeURIComponent(job.model_id)}/export`, `${job.name ?? job.model_id}.zip`).catch(failed));

  async function loadReport() {
    const report = await requestJson(`/jobs/${encodeURIComponent(job.id)}/report`, { signal });
    sentence.textContent = explained(job, report);
    tell(others, otherNames(report));
    replace(strip, changeStrip(job, report, signal));
    replace(labels, labelIssues({ job, report, classes: trained, signal }));
  }
  const reported = evaluated && loadReport().catch((error) => error.status !== 404 && failed(error)); // an older job may have none

  async function loadEarlier() {
    const before = await versionBefore(job, signal).catch(() => null); // it may have been deleted
    tell(earlier, (await comparedModels(job, before, signal).catch(() => "")) || (await earlierVersion(job, comparison, before, signal)));
  }
  if (evaluated && comparison) loadEarlier();

  const card = h(
    "div",
    { class: `card result ${mood}` },
    h("div", { class: "headline" }, h("h2", {}, title)),
    sentence,
    evaluated && comparison && threeNumbers(comparison),
    earlier,
    others,
    strip,
    h("div", { class: "row" }, actions, evaluated && reportLink(`/jobs/${encodeURIComponent(job.id)}/report`), share, save),
    extra,
    finished(job) && trainAgainRow(job, signal),
    trouble,
    job.warnings.length > 0 && h("details", { class: "plain" }, h("summary", {}, count(job.warnings.length, "warning")), h("ul", {}, job.warnings.map((warning) => h("li", {}, warning.detail)))),
    evaluated && h("details", { class: "plain" }, h("summary", {}, "Accuracy before and after"), evaluationChart(job.metrics)),
    codeFor({ what: "classify with this model", ...classifyPrograms({ model: job.name ?? job.model_id, class_names: trained }) }),
  );
  return [card, finished(job) && newClass(job, signal), labels];
}

const finished = ({ status }) => status === "succeeded";

function threeNumbers({ stock, adapted, interval, difference }) {
  const number = (name, value, range) => h("div", {}, h("dt", {}, name), h("dd", {}, value), range && h("dd", { class: "soft" }, range));
  return h("dl", { class: "three" }, number("Before", percent(stock)), number("Now", percent(adapted), interval && likely(interval)), number("Change", tip(`${points(difference.value)} points`, changeInterval(difference), { class: "gain" })));
}

function tell(element, words) {
  replace(element, words);
  element.hidden = !words;
}

/** Create a link to the report. A link can't send the key, so with a key the page opens the report as a blob. */
function reportLink(path) {
  const link = h("a", { class: "button quiet", href: path, target: "_blank", rel: "noopener" }, "Full report");
  if (key.get()) link.addEventListener("click", (event) => (event.preventDefault(), openReport(path)));
  return link;
}

async function openReport(path) {
  const tab = open("", "_blank"); // before the request, since browsers block later ones
  const report = await (await call(path, { headers: { Accept: "text/html" } })).blob();
  tab.location = URL.createObjectURL(report);
}
