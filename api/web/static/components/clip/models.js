// Dialog with the pre-trained models that can be downloaded or chosen.

import { button, h, modal, replace } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { size, timeToTrain } from "../../lib/words.js";

const STATES = { downloading: "Downloading", checking: "Checking", failed: "Failed" };

/** Show the models. `get` downloads one and makes it the default, `use` makes an installed one the default. */
export async function modelsDialog({ get, use }) {
	const { data, recommendation, fixed } = await requestJson("/backbones");
	const trouble = h("p", { class: "problem", role: "alert", hidden: true });
	const dialog = h(
		"dialog",
		{ class: "card wide", "aria-labelledby": "models-title" },
		h("h2", { id: "models-title" }, "Pre-trained models"),
		h("p", {}, recommendation, " Your trained models keep the model that they were trained with."),
		trouble,
		h("ul", { class: "plain-list" }, data.map(entry)),
		h(
			"p",
			{ class: "soft" },
			"Without a network, the operator installs a model from a folder: ",
			h("code", {}, "clipcite backbones import FOLDER"),
		),
		h(
			"div",
			{ class: "row end" },
			button("Close", () => dialog.close(), "main"),
		),
	);

	function entry(row) {
		const facts = [
			row.bytes && size(row.bytes),
			row.training_bytes && `${size(row.training_bytes)} of memory to train`,
			timeToTrain(row, 100),
			row.license && `licence ${row.license}`,
		];
		return h(
			"li",
			{ class: "model-choice" },
			h(
				"div",
				{},
				h("strong", {}, row.title),
				row.recommended && " (recommended)",
				h("p", { class: "soft" }, facts.filter(Boolean).join(" · ")),
			),
			action(row),
		);
	}
	function action(row) {
		if (row.default) return h("span", { class: "soft" }, "In use");
		if (fixed || STATES[row.state]) return h("span", { class: "soft" }, STATES[row.state] ?? "");
		const here = row.state === "installed";
		return h(
			"button",
			{
				type: "button",
				class: "quiet",
				"aria-label": `${here ? "Use" : "Get"} ${row.title}`,
				onclick: () => choose(here ? use : get, row),
			},
			here ? "Use it" : "Get it",
		);
	}
	async function choose(change, row) {
		try {
			await change(row);
			dialog.close();
		} catch (error) {
			trouble.hidden = false;
			replace(trouble, error.message);
		}
	}
	await modal(dialog);
}
