// The name of a model, and aliases such as shoes@prod: promote a version, and roll back.

import { announce, button, confirmed, h, newId } from "../lib/dom.js";
import { attempt } from "../lib/problem.js";
import { call } from "../lib/service/http.js";
import { modelName } from "./try/model_select.js";

/** Create the forms that name this model, and that point an alias at it once it has a name. */
export function namesOf(model) {
	const trouble = h("div", {});
	const path = (alias) => `/models/${encodeURIComponent(model.name)}/aliases/${encodeURIComponent(alias)}`;

	function act(send, message) {
		return attempt(trouble, async () => {
			await send();
			announce(message);
			dispatchEvent(new HashChangeEvent("hashchange")); // redraws the list: the alias may have left another model
		});
	}
	function point(alias) {
		const send = () => call(path(alias), { method: "PUT", json: { model: model.id } });
		act(send, `${model.name}@${alias} points at this model now.`);
	}
	function rename(name) {
		const send = () => call(`/models/${encodeURIComponent(model.id)}`, { method: "PATCH", json: { name } });
		act(send, `The name of the model is ${name} now.`);
	}
	async function rollBack(alias) {
		if (!(await confirmed(`Point ${model.name}@${alias} back at its previous model?`, "Roll back"))) return;
		const send = () => call(`${path(alias)}/rollback`, { method: "POST" });
		act(send, `${model.name}@${alias} points at its previous model again.`);
	}
	return h(
		"div",
		{ class: "aliases" },
		textForm({
			label: `Name of ${modelName(model)}`,
			text: model.name ?? "",
			hint: "Name",
			button: model.name ? "Rename" : "Save name",
			take: rename,
		}),
		model.name && [
			h("h3", {}, "Aliases"),
			h(
				"p",
				{ class: "soft" },
				`Programs that request ${model.name}@prod get the model that the alias prod points at.`,
			),
			textForm({ label: `Alias of ${model.name}`, text: "", hint: "prod", button: "Point here", take: point }),
			model.aliases.map((alias) => button(`Roll back @${alias}`, () => rollBack(alias), "quiet small")),
		],
		trouble,
	);
}

/** Create a field with a button. `take` gets the text. */
function textForm({ label, text, hint, button, take }) {
	const id = newId("field");
	const field = h("input", { id, value: text, placeholder: hint, autocomplete: "off", required: true });
	/** @param {Event} event */
	function send(event) {
		event.preventDefault();
		take(field.value.trim());
	}
	return h(
		"form",
		{ class: "row alias", onsubmit: send },
		h("label", { for: id, class: "unseen" }, label),
		field,
		h("button", { type: "submit", class: "quiet" }, button),
	);
}
