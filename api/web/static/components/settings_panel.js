// Optional training settings. Each has a default.

import { h, newId, replace } from "../lib/dom.js";
import { requestJson } from "../lib/service/http.js";
import { size, timeToTrain } from "../lib/words.js";

/** @import { draft } from "../lib/training/training_draft.js" */
/** @import { Shots } from "../lib/training/training_form.js" */

/** Create the panel. The base model is a choice once more than one is installed.
 *
 *  @param {typeof draft.settings} settings @param {Shots} shots @param {AbortSignal} signal */
export function settingsPanel(settings, shots, signal) {
	const ids = { name: newId("name"), backbone: newId("backbone"), epochs: newId("epochs") };
	/** @type {Backbone[]} */
	let backbones = [];
	const name = h("input", {
		id: ids.name,
		maxlength: "200",
		autocomplete: "off",
		placeholder: "garden birds",
		value: settings.name,
		oninput: () => (settings.name = name.value),
	});
	const epochs = h("input", {
		type: "number",
		id: ids.epochs,
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
		id: ids.backbone,
		onchange: () => {
			settings.backbone = backbone.value;
			shots.changed();
		},
	});
	const time = h("p", { class: "soft" });
	const choice = h(
		"div",
		{ class: "field", hidden: true },
		h("label", { for: ids.backbone }, "Base model"),
		backbone,
		time,
	);
	async function load() {
		const { data } = await requestJson("/backbones", { quiet: true, signal });
		backbones = data.filter(({ state }) => state === "installed");
		if (!backbones.some(({ name }) => name === settings.backbone)) settings.backbone = null;
		const usual = backbones.find((row) => row.default);
		replace(
			backbone,
			backbones.map(({ name, title, recommended }) =>
				h("option", { value: name }, title, recommended && " (recommended)"),
			),
		);
		if (!usual) settings.backbone ??= backbones[0]?.name ?? null; // the default was removed from the machine
		backbone.value = settings.backbone ?? usual?.name ?? "";
		choice.hidden = backbones.length < 2 && Boolean(usual);
		refresh();
	}
	const reload = () => load().catch(() => {}); // the service then uses its default
	document.addEventListener("base-models", reload, { signal });
	reload();
	const evaluation = h("p", { class: "soft" });
	const element = h(
		"div",
		{ class: "settings" },
		h("div", { class: "field" }, h("label", { for: ids.name }, "Model name (optional)"), name),
		choice,
		evaluation,
		h(
			"details",
			{ class: "plain" },
			h("summary", {}, "Advanced"),
			h("div", { class: "field" }, h("label", { for: ids.epochs }, "Epochs"), epochs),
		),
	);
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
