// Slider of the mixing weight α, with a tick at the model's default.

import { h, newId } from "../../lib/dom.js";

/** Create the slider. `changed` gets the new value. @param {(alpha: number) => void} changed */
export function strengthSlider(changed) {
	const id = newId("alpha");
	const text = h("span", { class: "value", "aria-hidden": "true" }); // screen readers read the slider
	const tick = h("span", { class: "tick soft", "aria-hidden": "true" }, "default");
	const input = h("input", { type: "range", id, min: "0", max: "1", step: "0.01", value: "0.5", oninput: moved });
	const element = h(
		"div",
		{ class: "card strength" },
		h("label", { for: id }, "Strength (α) ", text),
		h("div", { class: "scale" }, input, tick),
		h(
			"div",
			{ class: "ends soft", "aria-hidden": "true" },
			h("span", {}, "Pre-trained model"),
			h("span", {}, "Your examples"),
		),
	);
	function moved() {
		show();
		changed(value());
	}
	const value = () => Number(input.value);
	function show() {
		text.textContent = value().toFixed(2);
		input.setAttribute("aria-valuetext", `${Math.round(100 * value())} percent`);
	}
	/** Set the value, and the default if there is one. @param {number} alpha @param {number | null} [standard] */
	function set(alpha, standard = null) {
		input.value = String(alpha);
		tick.hidden = standard === null;
		if (standard !== null) tick.style.setProperty("--at", String(standard));
		show();
	}
	return { element, value, set };
}
