// Evaluation of a model with dropped images, whose folders are their labels.

import { announce, h, replace, unseen } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { upload } from "../../lib/service/http.js";
import { pictured } from "../../lib/training/image_check.js";
import { Shots } from "../../lib/training/training_form.js";
import { count, percent } from "../../lib/words.js";
import { dropZone } from "../dropzone.js";
import { folderTable } from "../folder_table.js";
import { likely } from "./verdict.js";

const MAX = 60;

/** Create a fold with a drop zone. `name` is unique among the models on the page. */
export function evaluateFold(model, name, signal) {
	const answer = h("div", { class: "evaluated" });
	let last = new AbortController();
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
			const result = await upload(`/models/${encodeURIComponent(model.id)}/evaluate`, form, { signal: until });
			replace(answer, summary(result), mistakes(result.mistakes, sent), folderTable(shots).element);
		} catch (error) {
			if (!until.aborted) showProblem(answer, error);
		}
	}
	const hint =
		"One folder per class, or a zip of them. Nothing is trained or stored. Use images that the model was not trained on.";
	return h(
		"details",
		{ class: "plain" },
		h("summary", {}, "Evaluate with images", unseen(` ${name}`)),
		dropZone({ title: "Drop labelled images", hint, folders: true, small: true, add }),
		answer,
	);
}

function summary({ images, correct, accuracy, interval, stock_accuracy: stock, warnings }) {
	const text = `${correct.toLocaleString("en")} of ${images.toLocaleString("en")} right`;
	const numbers = ` (${percent(accuracy)}, ${likely(interval)}). Pre-trained: ${percent(stock)}.`;
	announce(text + numbers);
	return [h("p", {}, h("strong", {}, text), numbers), warnings.map(({ detail }) => h("p", { class: "soft" }, detail))];
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

function mistakes(rows, files) {
	if (!rows.length) return null;
	return [
		h("h3", {}, count(rows.length, "mistake")),
		h(
			"ul",
			{ class: "strip", "aria-label": "Mistakes" },
			rows
				.slice(0, MAX)
				.map(({ file, class_name: truth, predicted, probability }) =>
					h(
						"li",
						{},
						picture(files.get(file), `${file}, labelled ${truth}`),
						h(
							"p",
							{},
							h("span", { class: "wrong" }, predicted),
							` ${percent(probability)}, labelled `,
							h("span", { class: "right" }, truth),
						),
					),
				),
		),
		rows.length > MAX && h("p", { class: "soft" }, `and ${count(rows.length - MAX, "further mistake")}`),
	];
}
