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
	const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
	const trouble = h("div", {});
	const heading = h("h2", {});
	const sentence = h("p", {});
	const numbers = h("div", {});
	const next = h("div", { class: "row" });
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
	/** @param {ReturnType<typeof comparisonOf>} comparison */
	const actionsFor = (comparison) => ({
		better: () => [tryIt("Use it", true)],
		probably_better: unproven,
		no_clear_gain: (comparison?.difference?.value ?? 0) > 0 ? unproven : notBetter,
		probably_worse: notBetter,
		worse: notBetter,
		evaluating: () => [tryIt("Try it", true)],
		not_evaluated: () => [add("Add test images", "test", true), tryIt("Try it")],
	});
	const path = /** @type {const} */ (`/jobs/${encodeURIComponent(job.id)}`);
	const address = /** @type {const} */ (`${path}/report`);
	const page = reportLink(address, failed);
	const share = button("Share", () =>
		reportPage(address)
			.then((page) => saveBlob(page, `${job.name ?? list(trained)}.html`))
			.catch(failed),
	);
	const save = button("Download", () => downloadModel(job.model_id, job.name ?? list(trained), signal).catch(failed));

	async function loadReport() {
		/** @type {JobReport} */
		const report = await requestJson(address, { signal });
		page.hidden = share.hidden = false;
		// It says more about its own numbers. An evaluation with images has others.
		if (report.sentences[1] === job.metrics?.sentences[1]) sentence.textContent = told(report.sentences);
		replace(strip, changeStrip(job, report, signal));
		replace(labels, labelIssues({ job, report, classes: trained, signal }));
	}

	/** @param {Metrics} metrics */
	async function loadEarlier(metrics) {
		const before = await versionBefore(job, signal).catch(() => null); // it may have been deleted
		const compared = await comparedModels({ ...job, metrics }, before, signal).catch(() => "");
		tell(earlier, compared || earlierVersion(metrics, before));
	}

	/** Show the verdict, its numbers and the next steps. Returns whether there are numbers. @param {Job["metrics"]} metrics */
	function judge(metrics) {
		const { kind, title, mood } = verdictOf(metrics);
		const evaluated = kind !== "evaluating" && kind !== "not_evaluated";
		const comparison = evaluated ? comparisonOf(metrics) : null;
		card.className = `card result ${mood}`;
		heading.textContent = title;
		const isEarly = kind === "evaluating";
		replace(sentence, isEarly ? ["You can use it now. The report follows", eta, "."] : told(metrics?.sentences));
		replace(numbers, comparison && threeNumbers(comparison));
		replace(next, actionsFor(comparison)[kind](), page, share, save);
		if (comparison && metrics) loadEarlier(metrics);
		return evaluated;
	}
	const measured = async () => judge((await requestJson(path, { signal })).metrics);

	const warnings = job.warnings.map(({ detail }) => h("li", {}, detail));
	const card = h(
		"div",
		{},
		h("div", { class: "headline" }, heading),
		sentence,
		notInUse({ ...job, id: job.model_id }),
		numbers,
		earlier,
		strip,
		next,
		extra,
		finished(job) && trainAgainRow(job, signal),
		trouble,
		finished(job) &&
			evaluateFold({ id: job.model_id, job_id: job.id }, `the model ${job.name ?? list(trained)}`, {
				measured: () => measured().catch(failed),
				signal,
			}),
		warnings.length > 0 && fold(count(warnings.length, "warning"), h("ul", {}, warnings)),
		codeFor({
			what: "classify with this model",
			...classifyPrograms({ model: (job.promoted && job.name) || job.model_id, class_names: trained }),
		}),
	);
	page.hidden = share.hidden = true; // until there is a report: an older job may have none
	const reported = judge(job.metrics) && loadReport().catch((error) => error.status !== 404 && failed(error));
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
