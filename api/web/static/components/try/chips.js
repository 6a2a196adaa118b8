// Field for class names as chips, each with optional prompts.

import { announce, h, newId, replace } from "../../lib/dom.js";
import { partsOf } from "../../lib/words.js";

const MAX_NAMES = 1000;

/** Create the field. `names`, a list of {name, prompts}, is changed in place; `changed` is called after each change. */
export function chipField(names, changed) {
	const id = newId("names");
	let trained = new Set();
	let open = null;
	const list = h("ul", { class: "chips", "aria-label": "Classes" });
	const editor = h("div", {});
	const input = h("input", {
		id,
		"aria-describedby": `${id}-hint`,
		autocomplete: "off",
		onkeydown: (event) => {
			if (event.key === "Enter" || event.key === ",") {
				event.preventDefault();
				take(input.value);
			} else if (event.key === "Backspace" && !input.value && names.length) remove(names.at(-1));
		},
		onpaste: (event) => {
			const text = event.clipboardData.getData("text");
			if (!/[,;\n]/.test(text)) return;
			event.preventDefault(); // a list, for example from a spreadsheet
			take(text);
		},
		onblur: () => input.value.trim() && take(input.value),
	});
	const element = h(
		"div",
		{ class: "field" },
		h("label", { for: id }, "Class names"),
		h("div", { class: "chip-box" }, list, input),
		h("p", { class: "soft", id: `${id}-hint` }, "Add any other class name. It needs no images."),
		editor,
	);

	function take(text) {
		const fresh = partsOf(text, /[,;\n]/);
		for (const name of fresh) {
			const known = names.some((entry) => entry.name.toLowerCase() === name.toLowerCase());
			if (!known && names.length < MAX_NAMES) names.push({ name, prompts: [] });
		}
		input.value = "";
		if (!fresh.length) return;
		announce(`${fresh.join(", ")} added.`);
		draw();
		changed();
	}
	function remove(entry) {
		names.splice(names.indexOf(entry), 1);
		if (open === entry) open = null;
		announce(`${entry.name} removed.`);
		draw();
		input.focus();
		changed();
	}
	function draw() {
		input.placeholder = names.length ? "another class …" : "class name, then Enter";
		replace(list, names.map(chip));
		replace(editor, open && promptField(open));
	}
	function unfold(entry) {
		open = open === entry ? null : entry;
		draw();
		(editor.querySelector("textarea") ?? input).focus(); // draw() has replaced the pressed button
	}
	function chip(entry) {
		const kind = trained.has(entry.name) ? "trained" : "new";
		const described = entry.prompts.length ? ", with prompts" : "";
		return h(
			"li",
			{ class: `chip ${kind}` },
			h(
				"button",
				{
					type: "button",
					class: "chip-name",
					title:
						kind === "new"
							? "Not trained: recognised by its name alone. Click to describe it in words."
							: "Describe in words",
					"aria-expanded": String(open === entry),
					"aria-label": `${entry.name}, ${kind}${described}. Describe in words`,
					onclick: () => unfold(entry),
				},
				entry.name,
				entry.prompts.length > 0 && h("span", { class: "quote", "aria-hidden": "true" }, "“ ”"),
			),
			h(
				"button",
				{ type: "button", class: "chip-x", "aria-label": `Remove ${entry.name}`, onclick: () => remove(entry) },
				"×",
			),
		);
	}
	function promptField(entry) {
		const field = h("textarea", {
			id: `${id}-prompts`,
			rows: "2",
			placeholder: "a frayed metal surface",
			oninput: () => {
				entry.prompts = partsOf(field.value);
				replace(list, names.map(chip));
				changed();
			},
		});
		field.value = entry.prompts.join("\n");
		const label = h("label", { for: field.id }, `Describe “${entry.name}”, one sentence per line`);
		return h("div", { class: "field inner" }, label, field);
	}
	draw();
	return {
		element,
		/** Replace all names. */
		set(others) {
			names.splice(0, names.length, ...others);
			open = null;
			draw();
		},
		/** Set the trained classes. */
		kinds(known) {
			const same = known.size === trained.size && [...known].every((name) => trained.has(name));
			trained = known;
			if (!same) replace(list, names.map(chip));
		},
	};
}
