// Button that shows the predictions of the pre-trained model while it is held.

import { h } from "../../lib/dom.js";

/** Create the button. `show` gets true while it is held by pointer or key. A click of a screen reader toggles it. */
export function beforeButton(show) {
	let on = false;
	let held = false; // a click that ends a hold toggles nothing
	const set = (value) => {
		if (value === on) return;
		on = value;
		button.setAttribute("aria-pressed", String(on));
		show(on);
	};
	const press = () => {
		held = true;
		set(true);
	};
	const isKey = (event) => event.key === " " || event.key === "Enter";
	const button = h(
		"button",
		{
			type: "button",
			class: "quiet hold",
			"aria-pressed": "false",
			title: "Answers of the pre-trained model",
			onpointerdown: press,
			onpointerup: () => set(false),
			onpointerleave: () => set(false),
			onpointercancel: () => set(false),
			oncontextmenu: (event) => event.preventDefault(), // a long touch
			onkeydown: (event) => isKey(event) && !event.repeat && press(),
			onkeyup: (event) => isKey(event) && set(false),
			onblur: () => set(false),
			onclick: () => {
				if (!held) set(!on);
				held = false;
			},
		},
		"Hold to see the answers before training",
	);
	return button;
}
