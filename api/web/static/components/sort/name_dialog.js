// Dialog that asks for a name.

import { button, h, modal, newId } from "../../lib/dom.js";

/** Ask for a name. Resolves to null if the dialog is left.
 *
 *  @param {string} title @param {{ value?: string, hint?: string, yes: string, signal: AbortSignal }} options */
export async function askName(title, { value = "", hint = "", yes, signal }) {
	const id = newId("name");
	const input = h("input", {
		id,
		autocomplete: "off",
		maxlength: "200",
		required: true,
		"aria-describedby": `${id}-hint`,
	});
	input.value = value;
	/** @param {Event} event */
	function take(event) {
		event.preventDefault(); // the content security policy forbids form submission
		if (input.value.trim()) dialog.close(input.value.trim());
	}
	const label = h("label", { for: id, id: `${id}-title` }, title);
	const words = h("p", { class: "soft", id: `${id}-hint` }, hint);
	const back = button("Go back", () => dialog.close(""));
	const end = h("div", { class: "row end" }, back, h("button", { type: "submit", class: "main" }, yes));
	const form = h("form", { onsubmit: take }, label, input, words, end);
	const dialog = h("dialog", { class: "card", "aria-labelledby": `${id}-title` }, form);
	const answer = modal(dialog, signal);
	input.focus();
	input.select();
	return (await answer) || null;
}
