// Dialog that asks for a class: one of the list, or a new one.

import { button, h, modal, newId, replace } from "../../lib/dom.js";

const SHOWN = 30;

/** Ask for the class of some images. Resolves to its name, or to null if the dialog is left.
 *
 *  @param {string} title @param {string[]} names @param {AbortSignal} signal */
export async function askClass(title, names, signal) {
	const id = newId("class");
	const list = h("div", { class: "choices" });
	const input = h("input", {
		id,
		autocomplete: "off",
		maxlength: "200",
		placeholder: "Type a class name",
		oninput: draw,
	});
	function draw() {
		const text = input.value.trim();
		const part = text.toLowerCase();
		/** @param {string} name */
		const rank = (name) => Number(name.toLowerCase().startsWith(part)) + Number(name.toLowerCase() === part);
		const found = names.filter((name) => name.toLowerCase().includes(part)).sort((a, b) => rank(b) - rank(a));
		const isNew = text && !names.some((name) => name.toLowerCase() === part);
		replace(
			list,
			isNew && button(`New class “${text}”`, () => dialog.close(text)), // Enter takes the first
			found.slice(0, SHOWN).map((name) => button(name, () => dialog.close(name))),
		);
	}
	/** @param {Event} event */
	function takeFirst(event) {
		event.preventDefault();
		list.querySelector("button")?.click();
	}
	const form = h("form", { onsubmit: takeFirst }, h("label", { for: id, id: `${id}-title` }, title), input);
	const back = button("Go back", () => dialog.close(""));
	const end = h("div", { class: "row end" }, back);
	const dialog = h("dialog", { class: "card", "aria-labelledby": `${id}-title` }, form, list, end);
	draw();
	const answer = modal(dialog, signal);
	input.focus();
	return (await answer) || null;
}
