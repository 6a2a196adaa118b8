// Models, newest first, with their verdicts and actions.

import { namesOf } from "../components/aliases.js";
import { classifyPrograms, codeFor, curl, javascript, python } from "../components/code.js";
import { downloadModel } from "../components/download.js";
import { notInUse } from "../components/not_in_use.js";
import { pagedList } from "../components/pager.js";
import { evaluateFold } from "../components/result/evaluate.js";
import { verdictTag } from "../components/result/verdict.js";
import { storedImage } from "../components/stored_image.js";
import { modelName } from "../components/try/model_select.js";
import { button, confirmed, h, replace, unseen } from "../lib/dom.js";
import { attempt, showProblem } from "../lib/problem.js";
import { call, requestJson } from "../lib/service/http.js";
import { listImages, spread } from "../lib/training/job_images.js";
import { count, list, size, when } from "../lib/words.js";

const TILES = 4;

/** @param {{ signal: AbortSignal }} options */
export function modelsView({ signal }) {
	const newest = new Map(); // list of the other versions, by name
	/** Create the card of a model. Another version goes below the newest one, which comes first. @param {Model} model */
	function item(model) {
		const content = card(model, signal);
		const others = newest.get(model.name);
		if (others) {
			others.add(content);
			return null;
		}
		if (!model.version) return content;
		const versions = otherVersions(model.name);
		newest.set(model.name, versions);
		return [content, versions.element];
	}
	return h(
		"section",
		{},
		h("h1", {}, "Models"),
		h("p", { class: "lede" }, "Your trained models. Each can also tell apart classes that you only name."),
		pagedList({
			path: "/models",
			signal,
			item,
			empty: [
				h("h2", {}, "No models yet"),
				h("p", {}, "Each finished training job creates a model."),
				h("a", { class: "button main", href: "#/" }, "Train a model"),
			],
		}),
		codeFor({
			what: "list the models",
			curl: () => curl("/models?limit=20"),
			python: () =>
				python(["for model in client.models.list():", "    print(model.id, model.name, model.trained_classes)"]),
			javascript: () =>
				javascript("/models?limit=20", {
					lines: ["for (const model of body.data) console.log(model.id, model.name, model.trained_classes);"],
				}),
		}),
	);
}

/** @param {string | null} name */
function otherVersions(name) {
	const list = h("ul", { class: "list" });
	const title = h("summary", {});
	const element = h("details", { class: "plain", hidden: true }, title, list);
	return {
		element,
		/** @param {HTMLElement} content */
		add(content) {
			list.append(h("li", {}, content));
			element.hidden = false;
			replace(title, count(list.children.length, "other version"), unseen(` of ${name}`));
		},
	};
}

/** @param {Model} model @param {AbortSignal} signal */
function card(model, signal) {
	const name = modelName(model);
	const path = /** @type {const} */ (`/models/${encodeURIComponent(model.id)}`);
	const trouble = h("div", {});
	const failed = (error) => showProblem(trouble, error);
	async function remove() {
		if (!(await confirmed(`Delete the model “${name}”? This can't be undone.`, "Delete"))) return;
		await attempt(trouble, async () => {
			await call(path, { method: "DELETE" });
			dispatchEvent(new HashChangeEvent("hashchange")); // draws the list again: another version may be the newest
		});
	}
	const hidden = () => unseen(` ${name}`);
	const action = (text, onclick) => button([text, hidden()], onclick);
	/** @param {string} text @param {string} view @param {string} id */
	const link = (text, view, id, kind = "quiet") =>
		h("a", { class: `button ${kind}`, href: `#/${view}/${encodeURIComponent(id)}` }, text, hidden());
	const result = model.job_id && link("Result", "jobs", model.job_id);
	const aliases = model.aliases.map((alias) => h("span", { class: "tag busy" }, `@${alias}`));
	const facts = `${count(model.trained_classes.length, "class", "classes")}, ${size(model.bytes)}, ${model.backbone}`;
	const download = action("Download", () => downloadModel(model.id, name, signal).catch(failed));
	const menu = h(
		"details",
		{ class: "menu" },
		h("summary", { class: "button quiet", "aria-label": `More actions for ${name}` }, "⋯"),
		h("div", { class: "row" }, download, action("Delete", remove)),
		namesOf(model),
	);
	const verdict = h("span", {}, verdictTag(model.metrics));
	async function measured() {
		const { metrics } = await requestJson(path, { signal });
		replace(verdict, verdictTag(metrics));
	}
	return h(
		"div",
		{ class: "model" },
		model.job_id && mosaic(model.job_id, signal),
		h(
			"div",
			{ class: "facts" },
			h("h2", {}, name),
			h("p", { class: "row" }, verdict, aliases, h("span", { class: "soft" }, when(model.created_at))),
			h("p", { class: "soft" }, `${list(model.trained_classes, 8)} · ${facts}`),
			h(
				"div",
				{ class: "row" },
				link("Try", "try", model.id, "main"),
				link("Sort with it", "sort", model.id),
				result,
				menu,
			),
			notInUse(model, () => dispatchEvent(new HashChangeEvent("hashchange"))), // another version may be out of use
			trouble,
			evaluateFold(model, name, { measured: () => measured().catch(failed), signal }),
			codeFor({ what: name, ...classifyPrograms({ model: model.id, class_names: model.trained_classes }) }),
		),
	);
}

/** Create one tile per class from the model's training images; nothing once they are deleted.
 *
 *  @param {string} jobId @param {AbortSignal} signal */
function mosaic(jobId, signal) {
	const tiles = h("div", { class: "mosaic", "aria-hidden": "true" });
	listImages(jobId, signal)
		.then((images) => {
			const picked = spread(images, TILES);
			tiles.hidden = !picked.length;
			const tile = ({ position }) => storedImage(jobId, position, { alt: "", side: 128, signal });
			replace(tiles, picked.map(tile));
		})
		.catch(() => (tiles.hidden = true));
	return tiles;
}
