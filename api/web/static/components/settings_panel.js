// Optional training settings. Each has a default.

import { field, fold, h, replace } from "../lib/dom.js";
import { requestJson } from "../lib/service/http.js";
import { size, timeToTrain } from "../lib/words.js";

/** @import { draft } from "../lib/training/training_draft.js" */
/** @import { Shots } from "../lib/training/training_form.js" */

/** Create the panel. The base model is a choice once more than one is installed.
 *
 *  @param {typeof draft.settings} settings @param {Shots} shots @param {AbortSignal} signal */
export function settingsPanel(settings, shots, signal) {
	/** @type {Backbone[]} */
	let backbones = [];
	const name = h("input", {
		maxlength: "200",
		autocomplete: "off",
		placeholder: "garden birds",
		value: settings.name,
		oninput: () => (settings.name = name.value),
	});
	const epochs = h("input", {
		type: "number",
		min: "1",
		max: "1000",
		placeholder: "default of the pre-trained model",
		value: settings.epochs,
		oninput: () => {
			settings.epochs = Number(epochs.value) || null;
			shots.changed();
		},
	});
	const backbone = h("select", {
		onchange: () => {
			settings.backbone = backbone.value;
			shots.changed();
		},
	});
	const time = h("p", { class: "soft" });
	const choice = field("Base model", backbone, time);
	choice.hidden = true;
	async function load() {
		const { data } = await requestJson("/backbones", { quiet: true, signal });
		backbones = data.filter(({ state }) => state === "installed");
		if (!backbones.some(({ name }) => name === settings.backbone)) settings.backbone = null;
		const usual = backbones.find((row) => row.default);
		const words = (row) => [row.title, row.recommended && " (recommended)"];
		replace(backbone, ...backbones.map((row) => h("option", { value: row.name }, words(row))));
		if (!usual) settings.backbone ??= backbones[0]?.name ?? null; // the default was removed from the machine
		backbone.value = settings.backbone ?? usual?.name ?? "";
		choice.hidden = backbones.length < 2 && Boolean(usual);
		refresh();
	}
	const reload = () => load().catch(() => {}); // the service then uses its default
	document.addEventListener("base-models", reload, { signal });
	reload();
	const evaluation = h("p", { class: "soft" });
	const advanced = fold("Advanced", field("Epochs", epochs));
	const element = h("div", { class: "settings" }, field("Model name (optional)", name), choice, evaluation, advanced);
	/** Show the settings, which were changed elsewhere. */
	function fill() {
		name.value = settings.name;
		epochs.value = String(settings.epochs ?? "");
		reload();
	}
	function refresh() {
		const images = shots.images.filter((image) => image.split === "train").length;
		const row = backbones.find(({ name }) => name === backbone.value);
		const needs = row
			? [images && timeToTrain(row, images), row.training_bytes && `${size(row.training_bytes)} of memory`]
			: [];
		time.textContent = needs.some(Boolean) ? `Takes ${needs.filter(Boolean).join(", ")}.` : "";
		const hasTests = shots.images.some((image) => image.split === "test");
		evaluation.textContent = hasTests
			? "The model is evaluated on your test images."
			: "All images train the model. Trial models that are trained on a part of them measure it.";
	}
	return { element, refresh, fill };
}
