// Right answers before and after as an image, with the range in which the true difference lies.

import { h, svg } from "../lib/dom.js";
import { percent, points } from "../lib/words.js";

const at = (share) => `${(100 * share).toFixed(2)}%`; // of the width, whatever that is: text and dots keep their size

/** What was measured: [words, comparison]. */
function groups({ trained_classes: trained, new_classes: others, all_classes: all }) {
  const found = [
    ["Your classes", trained],
    ["Names it was not taught", others],
    ["All names at once", others && all?.all],
  ];
  return found.filter(([, comparison]) => comparison);
}

/** One row of a scale from 0 to 100 % for each group that was measured; null without any. */
export function measurement(metrics) {
  const rows = groups(metrics).map(([words, comparison]) => row(words, comparison));
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
      h("span", {}, h("span", { class: "mark range" }), "where it truly lies (95 %)"),
    ),
  );
}

function row(words, { stock, adapted, difference }) {
  const said = `${words}: ${percent(stock)} right before, ${percent(adapted)} now`;
  const range = difference ? `, a difference of ${points(difference.value)} points, between ${points(difference.low)} and ${points(difference.high)}` : "";
  const between = (share) => Math.min(1, Math.max(0, share));
  const drawing = svg(
    "svg",
    { height: 48, role: "img", "aria-label": said + range },
    [0, 0.25, 0.5, 0.75, 1].map((share) => svg("line", { class: "grid", x1: at(share), x2: at(share), y1: 4, y2: 30 })),
    [0, 0.5, 1].map((share) => svg("text", { class: "axis", x: at(share), y: 45, "text-anchor": "middle" }, percent(share))),
    difference &&
      svg("rect", {
        class: "range",
        x: at(between(stock + difference.low)),
        width: at(between(stock + difference.high) - between(stock + difference.low)),
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
    h("figcaption", {}, h("span", {}, words), h("strong", {}, `${percent(stock)} → ${percent(adapted)}`)),
    drawing,
  );
}
