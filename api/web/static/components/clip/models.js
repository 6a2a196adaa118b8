// Dialog with the pre-trained models that can be downloaded or chosen.

import { button, h, modal, replace, titledDialog } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { size, timeToTrain } from "../../lib/words.js";

const STATES = { downloading: "Downloading", checking: "Checking", failed: "Failed" };

/** Show the models. `get` downloads one and makes it the default, `use` makes an installed one the default. */
export async function modelsDialog({ get, use }) {
	const { data, recommendation, fixed } = await requestJson("/backbones");
	const trouble = h("p", { class: "problem", role: "alert", hidden: true });
	const close = button("Close", () => dialog.close(), "main");
	const offline = "Without a network, the operator installs a model from a folder: ";
	const content = [
		h("p", {}, recommendation, " Your trained models keep the model that they were trained with."),
		trouble,
		h("ul", { class: "plain-list" }, data.map(entry)),
		h("p", { class: "soft" }, offline, h("code", {}, "clipcite backbones import FOLDER")),
	];
	const dialog = titledDialog("Pre-trained models", content, close);
	dialog.classList.add("wide");

	function entry(row) {
		const facts = [
			row.bytes && size(row.bytes),
			row.training_bytes && `${size(row.training_bytes)} of memory to train`,
			timeToTrain(row, 100),
			row.license && `licence ${row.license}`,
		];
		const words = h("p", { class: "soft" }, facts.filter(Boolean).join(" · "));
		const name = [h("strong", {}, row.title), row.recommended && " (recommended)"];
		return h("li", { class: "model-choice" }, h("div", {}, name, words), action(row));
	}
	function action(row) {
		if (row.default) return h("span", { class: "soft" }, "In use");
		if (fixed || STATES[row.state]) return h("span", { class: "soft" }, STATES[row.state] ?? "");
		const here = row.state === "installed";
		const take = button(here ? "Use it" : "Get it", () => choose(here ? use : get, row));
		take.ariaLabel = `${here ? "Use" : "Get"} ${row.title}`;
		return take;
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
