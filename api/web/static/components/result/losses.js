// Charts of the losses during training, each with its own scale.

import { h, svg } from "../../lib/dom.js";

/** @type {Record<string, string>} */
const LABELS = {
	dva: "Telling your classes apart",
	scl: "Matching images with text",
	vld: "Staying close to the pre-trained model",
};
const WIDTH = 240;
const HEIGHT = 72;
const EDGE = 5;

export function lossCharts() {
	/** @type {Map<string, ReturnType<typeof chart>>} */
	const charts = new Map();
	const row = h("div", { class: "charts" });
	const element = h(
		"div",
		{ class: "losses", hidden: true },
		h("h2", {}, "Training progress"),
		h(
			"p",
			{ class: "soft" },
			"Losses by training step. They should fall, but “Staying close” shows the distance from the pre-trained model.",
		),
		row,
	);
	/** Add the progress of a job. Progress without losses is ignored. @param {Progress} progress */
	function add({ stage, step, loss }) {
		if (!loss || stage !== "training") return;
		element.hidden = false;
		for (const [name, value] of Object.entries(loss)) {
			if (name === "total") continue;
			const drawn = charts.get(name) ?? chart(name, LABELS[name] ?? name);
			if (!charts.has(name)) row.append(drawn.element);
			charts.set(name, drawn);
			drawn.add(step, value);
		}
	}
	return { element, add };
}

/** @param {string} name @param {string} label */
function chart(name, label) {
	const term = `L_${name.toUpperCase()}`;
	/** @type {[number, number][]} */
	let points = [];
	const value = h("span", { class: "value" }); // no <output>: screen readers would announce each step
	const line = svg("polyline", { class: "line" });
	const dot = svg("path", { class: "dot" }); // zero length: the round line caps stay round when the chart is stretched
	const frame = svg("path", { class: "axes", d: `M0 0V${HEIGHT}H${WIDTH}` });
	const image = svg(
		"svg",
		{ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" },
		frame,
		line,
		dot,
	);
	const [top, bottom, first, last] = ["high", "low", "start", "end"].map((side) =>
		h("span", { class: side, "aria-hidden": "true" }),
	);
	const element = h(
		"figure",
		{ class: "card chart" },
		h("figcaption", {}, h("span", {}, label, h("abbr", { title: `Loss ${term}` }, term)), value),
		h("div", { class: "plot" }, top, bottom, image, first, last),
	);
	/** @param {number} step @param {number} loss */
	function add(step, loss) {
		points = points.filter(([at]) => at < step); // a resumed job repeats steps
		points.push([step, loss]);
		const [start, end] = [points[0][0], points[points.length - 1][0]];
		const values = points.map(([, v]) => v);
		const [low, high] = [Math.min(...values), Math.max(...values)];
		const placed = points.map(([at, v]) => [
			EDGE + ((WIDTH - 2 * EDGE) * (at - start)) / Math.max(1, end - start),
			EDGE + (HEIGHT - 2 * EDGE) * (1 - (v - low) / (high - low || 1)),
		]);
		line.setAttribute("points", placed.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
		const [x, y] = placed[placed.length - 1];
		dot.setAttribute("d", `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
		value.textContent = formatted(loss);
		top.textContent = formatted(high);
		bottom.textContent = formatted(low);
		first.textContent = `step ${start}`;
		last.textContent = String(end);
		image.setAttribute("aria-label", `${label}: from ${formatted(values[0])} to ${formatted(loss)} in ${end} steps.`);
	}
	return { element, add };
}

function formatted(loss) {
	return loss >= 10 ? loss.toFixed(1) : loss >= 0.01 ? loss.toFixed(2) : loss.toFixed(4);
}
