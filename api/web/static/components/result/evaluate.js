// Evaluation of a model with dropped images, whose folders are their labels. The service keeps the last one.

import { announce, fold, h, replace, unseen } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { requestJson, upload } from "../../lib/service/http.js";
import { pictured } from "../../lib/training/image_check.js";
import { Shots } from "../../lib/training/training_form.js";
import { count, percent, when } from "../../lib/words.js";
import { dropZone } from "../dropzone.js";
import { folderTable } from "../folder_table.js";
import { trainAgainButton } from "../train_again.js";

/** @import { Shot } from "../../lib/training/training_form.js" */
/** @typedef {Schemas["Evaluation"]} Evaluation */

const MAX = 60;
const MAX_COLUMNS = 30; // of the confusion matrix
const MAX_CONFUSIONS = 20;

/** Create a fold with the last evaluation and a drop zone for another. `name` is unique among the models on the page, and
 *  `measured` is called after an evaluation.
 *
 *  @param {Pick<Model, "id" | "job_id">} model @param {string} name
 *  @param {{ measured?: () => void, signal: AbortSignal }} options */
export function evaluateFold(model, name, { measured = () => {}, signal }) {
	const answer = h("div", { class: "evaluated" });
	const path = /** @type {const} */ (`/models/${encodeURIComponent(model.id)}`);
	let last = new AbortController();
	/** @param {Promise<DroppedFile[]>} files */
	async function add(files) {
		last.abort(); // another drop replaces it
		const own = new AbortController();
		last = own;
		const until = AbortSignal.any([own.signal, signal]);
		const shots = new Shots();
		until.addEventListener("abort", () => shots.clear());
		try {
			const dropped = await files;
			if (!until.aborted) await shots.add(dropped);
			until.throwIfAborted();
			if (!shots.images.length || shots.classes.some((entry) => !entry.name))
				throw new Error("Drop folders that are named after the classes of their images.");
			for (const image of shots.images) image.split = "test";
			const { form, files: sent } = shots.form({ config: {} });
			form.delete("config");
			replace(answer, h("p", { class: "soft" }, `Evaluating with ${count(shots.images.length, "image")} …`));
			const result = await upload(`${path}/evaluate`, form, { signal: until });
			announce(result.sentences.join(" "));
			replace(answer, shown(result, sent), folderTable(shots).element);
			measured();
		} catch (error) {
			if (!until.aborted) showProblem(answer, error);
		}
	}
	/** @param {Evaluation} result @param {Map<string, Shot>} [sent] */
	const shown = (result, sent) => [
		summary(result),
		classTable(result),
		confusion(result),
		sent ? mistakes(model, result.mistakes, sent, signal) : namedMistakes(result.mistakes),
	];
	const zone = dropZone({
		title: "Drop labelled images",
		hint: "One folder per class, or a zip of them. Take photos that the model was not trained on. The result stays with the model, the photos don’t.",
		folders: true,
		small: true,
		add,
	});
	const element = fold(["Evaluate with images", unseen(` ${name}`)], answer, zone);
	async function load() {
		if (!(await requestJson(path, { signal })).evaluated) return;
		const kept = await requestJson(`${path}/evaluation`, { signal });
		if (!answer.firstChild) replace(answer, shown(kept));
	}
	element.addEventListener("toggle", () => {
		if (element.open && !answer.firstChild) load().catch((error) => showProblem(answer, error));
	});
	return element;
}

/** @param {Evaluation} result */
function summary({ sentences, images, correct, created_at: at, warnings }) {
	const [title, ...rest] = sentences;
	return [
		h("p", {}, h("strong", {}, title), ` ${rest.join(" ")}`),
		h(
			"p",
			{ class: "soft" },
			`${correct.toLocaleString("en")} of ${images.toLocaleString("en")} right${at ? `, ${when(at)}` : ""}.`,
		),
		warnings.map(({ detail }) => h("p", { class: "soft" }, detail)),
	];
}

/** @param {string} label @param {Child[]} heads @param {Child[]} rows */
function table(label, heads, rows) {
	const columns = heads.map((name) => h("th", { scope: "col" }, name));
	return h(
		"div",
		{ class: "scroll", tabindex: "0", role: "region", "aria-label": label },
		h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, columns)), h("tbody", {}, rows)),
	);
}

/** @param {Evaluation} result */
function classTable({ classes }) {
	const row = ({ name, images, correct, stock_correct: before }) => {
		const cells = [String(images), percent(before / images), percent(correct / images)];
		return h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((text) => h("td", {}, text)));
	};
	const rows = classes.filter(({ images }) => images).map(row);
	return table("Right per class", ["Class", "Images", "Before", "Now"], rows);
}

/** Create the confusion matrix; of many classes, a list of what is confused most. @param {Evaluation} result */
function confusion({ classes, confusion_matrix: matrix }) {
	if (!matrix) return null;
	const names = classes.map(({ name }) => name);
	const pairs = matrix
		.flatMap((row, i) => row.map((images, j) => ({ images, i, j })))
		.filter(({ images, i, j }) => images && i !== j)
		.toSorted((a, b) => b.images - a.images);
	if (!pairs.length) return null;
	const cells = (row, i) =>
		row.map((images, j) => h("td", { class: images ? (i === j ? "right" : "wrong") : "none" }, String(images)));
	const content =
		names.length <= MAX_COLUMNS
			? [
					h("p", { class: "soft" }, "A row per true class, a column per answer of the model."),
					table(
						"What is taken for what",
						["", ...names],
						matrix.map((row, i) => h("tr", {}, h("th", { scope: "row" }, names[i]), cells(row, i))),
					),
				]
			: h(
					"ul",
					{},
					pairs
						.slice(0, MAX_CONFUSIONS)
						.map(({ images, i, j }) => h("li", {}, `${names[i]} taken for ${names[j]}: ${count(images, "image")}`)),
				);
	return h("details", { class: "plain confusion" }, h("summary", {}, "What is taken for what"), content);
}

/** @param {PageImage | undefined} image @param {string} alt */
function picture(image, alt) {
	const shown = h("img", { class: "stored loaded", src: image?.url, alt });
	if (image && !image.url) {
		pictured(image).then(() => {
			if (image.url) shown.src = image.url;
		});
	}
	return shown;
}

/** @param {Evaluation["mistakes"][number]} mistake */
const words = ({ predicted, probability, class_name: truth }) =>
	h(
		"p",
		{},
		h("span", { class: "wrong" }, predicted),
		` ${percent(probability)}, labelled `,
		h("span", { class: "right" }, truth),
	);

/** Show the mistakes of this visit with their images, from which the model can be trained again.
 *
 *  @param {Pick<Model, "id" | "job_id">} model @param {Evaluation["mistakes"]} rows @param {Map<string, Shot>} sent
 *  @param {AbortSignal} signal */
function mistakes(model, rows, sent, signal) {
	if (!rows.length) return null;
	const trouble = h("div", {});
	const images = rows.flatMap(({ file, class_name: className }) => {
		const image = sent.get(file);
		return image ? [{ file: image.file, name: file, className }] : [];
	});
	const again = trainAgainButton({
		model: () => model.id,
		images: () => images,
		what: "photo",
		note: " These photos can’t test it any more.",
		failed: (error) => showProblem(trouble, error),
		signal,
	});
	const pictureOf = ({ file, class_name: truth }) => picture(sent.get(file), `${file}, labelled ${truth}`);
	const items = rows.slice(0, MAX).map((mistake) => h("li", {}, pictureOf(mistake), words(mistake)));
	return [
		h("h3", {}, count(rows.length, "mistake")),
		h("ul", { class: "strip", "aria-label": "Mistakes" }, items),
		further(rows),
		model.job_id && h("div", { class: "row" }, again.element),
		trouble,
	];
}

/** @param {Evaluation["mistakes"]} rows */
const further = (rows) =>
	rows.length > MAX && h("p", { class: "soft" }, `and ${count(rows.length - MAX, "further mistake")}`);

/** Name the mistakes of an earlier visit. @param {Evaluation["mistakes"]} rows */
function namedMistakes(rows) {
	if (!rows.length) return null;
	const hint = h("p", { class: "soft" }, "Drop the same photos again to see them and to train with them.");
	const item = (mistake) => h("li", {}, h("span", { class: "file" }, mistake.file), words(mistake));
	const list = h("ul", { "aria-label": "Mistakes" }, rows.slice(0, MAX).map(item));
	return fold(count(rows.length, "mistake"), hint, list, further(rows));
}
