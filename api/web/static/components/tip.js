// Tooltip that opens by pointer, by keyboard and by touch.

import { h, newId } from "../lib/dom.js";

/** Create `label` with a tooltip. */
export function tip(label, text, properties = {}) {
	const id = newId("tip");
	const close = (event) => event.key === "Escape" && event.currentTarget.blur();
	return h(
		"span",
		{ class: "tip" },
		h(
			"button",
			{
				type: "button",
				...properties,
				class: `tip-label ${properties.class ?? ""}`,
				"aria-describedby": id,
				onkeydown: close,
			},
			label,
		),
		h("span", { class: "tip-text", role: "tooltip", id }, text),
	);
}
