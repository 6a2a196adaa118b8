// Chart of the accuracy before and after training, with its 95% confidence interval.

import { h, svg } from "../../lib/dom.js";
import { percent, points } from "../../lib/words.js";

const at = (fraction) => `${(100 * fraction).toFixed(2)}%`; // relative to the width, so text and dots keep their size

/** Return the evaluated groups of classes as [label, comparison]. All have the candidates of the verdict, so they add up to it. */
function groups({ trained_classes: trained, all_classes: all }) {
	const candidates = all?.new
		? [
				["Your classes", all.trained],
				["New classes", all.new],
				["All classes", all.all],
			]
		: [["Your classes", trained]];
	return candidates.filter(([, comparison]) => comparison);
}

/** Create a chart with one row per group, from 0 to 100%; null without an evaluation. */
export function evaluationChart(metrics) {
	const rows = groups(metrics).map(([label, comparison]) => row(label, comparison));
	if (!rows.length) return null;
	return h(
		"div",
		{ class: "measurement" },
		rows,
		h(
			"p",
			{ class: "legend soft" },
			h("span", {}, h("span", { class: "mark before" }), "before"),
			h("span", {}, h("span", { class: "mark after" }), "now"),
			h("span", {}, h("span", { class: "mark range" }), "95% confidence"),
		),
	);
}

function row(label, { stock, adapted, difference }) {
	const description = `${label}: ${percent(stock)} correct before, ${percent(adapted)} now`;
	const range = difference
		? `, change ${points(difference.value)} points, 95% confidence interval ${points(difference.low)} to ${points(difference.high)}`
		: "";
	const clamp = (fraction) => Math.min(1, Math.max(0, fraction));
	const drawing = svg(
		"svg",
		{ height: 48, role: "img", "aria-label": description + range },
		[0, 0.25, 0.5, 0.75, 1].map((fraction) =>
			svg("line", { class: "grid", x1: at(fraction), x2: at(fraction), y1: 4, y2: 30 }),
		),
		[0, 0.5, 1].map((fraction) =>
			svg("text", { class: "axis", x: at(fraction), y: 45, "text-anchor": "middle" }, percent(fraction)),
		),
		difference &&
			svg("rect", {
				class: "range",
				x: at(clamp(stock + difference.low)),
				width: at(clamp(stock + difference.high) - clamp(stock + difference.low)),
				y: 10,
				height: 14,
				rx: 7,
			}),
		svg("line", { class: "move", x1: at(stock), x2: at(adapted), y1: 17, y2: 17 }),
		svg("circle", { class: "before", cx: at(stock), cy: 17, r: 6 }),
		svg("circle", { class: "after", cx: at(adapted), cy: 17, r: 7 }),
	);
	return h(
		"figure",
		{},
		h("figcaption", {}, h("span", {}, label), h("strong", {}, `${percent(stock)} → ${percent(adapted)}`)),
		drawing,
	);
}
