// Result of a job: the user's own images before and after training, the verdict, and the next step.

import { button, fold, h, replace } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { call, key, requestJson, saveBlob } from "../../lib/service/http.js";
import { count, list, percent, points } from "../../lib/words.js";
import { comparedModels, trainAgainRow } from "../clip/again.js";
import { classifyPrograms, codeFor } from "../code.js";
import { downloadModel } from "../download.js";
import { notInUse } from "../not_in_use.js";
import { evaluateFold } from "./evaluate.js";
import { labelIssues } from "./label_issues.js";
import { moreImages } from "./more_images.js";
import { changeStrip } from "./strip.js";
import { newClass } from "./test_images.js";
import { comparisonOf, earlierVersion, likely, verdictOf, versionBefore } from "./verdict.js";

/** Create the panel of a job that has a model. `eta` is an element with the time until the report.
 *
 *  @param {Job & { model_id: string }} job @param {{ eta: HTMLElement, signal: AbortSignal }} options */
export function resultPanel(job, { eta, signal }) {
	const { kind, title, mood } = verdictOf(job.metrics);
	const evaluated = kind !== "evaluating" && kind !== "not_evaluated";
	const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
	const comparison = comparisonOf(job.metrics);
	const trouble = h("div", {});
	const sentence = h(
		"p",
		{},
		kind === "evaluating" ? ["You can use it now. The report follows", eta, "."] : told(job.metrics?.sentences),
	);
	const strip = h("div", { class: "strip-box" });
	const earlier = h("p", { hidden: true });
	const labels = h("div", {});
	const extra = h("div", {});
	const failed = (error) => showProblem(trouble, error);

	const link = (text, href, main) => h("a", { class: main ? "button main" : "button quiet", href }, text);
	const tryIt = (text, main = false) => link(text, `#/try/${encodeURIComponent(job.model_id)}`, main);
	/** @param {string} text @param {"test" | "train"} split */
	const add = (text, split, main = false) => {
		/** @type {HTMLElement | null} */
		let form = null;
		function show() {
			form ??= extra.appendChild(moreImages(job, trained, split, signal));
			form.scrollIntoView({ block: "nearest" });
		}
		return button(text, show, main ? "main" : "quiet");
	};
	const checkLabels = async () => {
		await reported; // with the labels
		labels.firstElementChild?.setAttribute("open", "");
		labels.scrollIntoView();
		labels.querySelector("summary")?.focus({ preventScroll: true });
	};
	const unproven = () => [add("Add test images", "test", true), add("Add images", "train"), tryIt("Try it")];
	const notBetter = () => [
		button("Check labels", checkLabels, "main"),
		link("Use the pre-trained model", "#/try/stock"),
		tryIt("Try it"),
	];
	const actions = {
		better: () => [tryIt("Use it", true)],
		probably_better: unproven,
		no_clear_gain: (comparison?.difference?.value ?? 0) > 0 ? unproven : notBetter,
		probably_worse: notBetter,
		worse: notBetter,
		evaluating: () => [tryIt("Try it", true)],
		not_evaluated: () => [add("Add test images", "test", true), tryIt("Try it")],
	}[kind]();
	const address = `/jobs/${encodeURIComponent(job.id)}/report`;
	const share = button("Share", () =>
		reportPage(address)
			.then((page) => saveBlob(page, `${job.name ?? list(trained)}.html`))
			.catch(failed),
	);
	const save = button("Download", () => downloadModel(job.model_id, job.name ?? list(trained), signal).catch(failed));

	async function loadReport() {
		/** @type {JobReport} */
		const report = await requestJson(address, { signal });
		sentence.textContent = told(report.sentences);
		replace(strip, changeStrip(job, report, signal));
		replace(labels, labelIssues({ job, report, classes: trained, signal }));
	}
	const reported = evaluated && loadReport().catch((error) => error.status !== 404 && failed(error)); // an older job may have none

	/** @param {Metrics} metrics */
	async function loadEarlier(metrics) {
		const before = await versionBefore(job, signal).catch(() => null); // it may have been deleted
		tell(earlier, (await comparedModels(job, before, signal).catch(() => "")) || earlierVersion(metrics, before));
	}
	if (evaluated && comparison && job.metrics) loadEarlier(job.metrics);

	const warnings = job.warnings.map(({ detail }) => h("li", {}, detail));
	const card = h(
		"div",
		{ class: `card result ${mood}` },
		h("div", { class: "headline" }, h("h2", {}, title)),
		sentence,
		notInUse({ ...job, id: job.model_id }),
		evaluated && comparison && threeNumbers(comparison),
		earlier,
		strip,
		h("div", { class: "row" }, actions, evaluated && [reportLink(address, failed), share], save),
		extra,
		finished(job) && trainAgainRow(job, signal),
		trouble,
		finished(job) &&
			evaluateFold({ id: job.model_id, job_id: job.id }, `the model ${job.name ?? list(trained)}`, { signal }),
		warnings.length > 0 && fold(count(warnings.length, "warning"), h("ul", {}, warnings)),
		codeFor({
			what: "classify with this model",
			...classifyPrograms({ model: (job.promoted && job.name) || job.model_id, class_names: trained }),
		}),
	);
	return [card, finished(job) && newClass(job, signal), labels];
}

/** Return the sentences below the title. @param {string[]} [sentences] */
const told = (sentences = []) => sentences.slice(1).join(" ");

/** @param {Job} job */
const finished = ({ status }) => status === "succeeded";

/** @param {Schemas["ComparedAccuracies"]} comparison */
function threeNumbers({ stock, adapted, interval, difference }) {
	const number = (name, value, range) =>
		h("div", {}, h("dt", {}, name), h("dd", {}, value), range && h("dd", { class: "soft" }, range));
	return h(
		"dl",
		{ class: "three" },
		number("Before", percent(stock)),
		number("Now", percent(adapted), interval && likely(interval)),
		difference && number("Change", h("span", { class: "gain" }, `${points(difference.value)} points`)),
	);
}

function tell(element, words) {
	replace(element, words);
	element.hidden = !words;
}

/** Return the report as a page that opens without the service. @param {string} path */
async function reportPage(path) {
	return (await call(path, { headers: { Accept: "text/html" } })).blob();
}

/** Create a link to the report. A link can't send the key, so with a key the page opens the report as a blob.
 *
 *  @param {string} path @param {(error: any) => void} failed */
function reportLink(path, failed) {
	const onclick = key.get() ? openReport : null;
	return h("a", { class: "button quiet", href: path, target: "_blank", rel: "noopener", onclick }, "Full report");
	/** @param {Event} event */
	async function openReport(event) {
		event.preventDefault();
		const tab = open("", "_blank"); // before the request, since browsers block later ones
		if (!tab) return;
		try {
			tab.location.href = URL.createObjectURL(await reportPage(path));
		} catch (error) {
			tab.close();
			failed(error);
		}
	}
}
