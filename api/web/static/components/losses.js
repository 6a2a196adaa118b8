// The three losses while it learns, each with its own scale: what matters is that they fall.

import { h, svg } from "../lib/dom.js";

const LOSSES = [
  ["dva", "Telling your classes apart", "L_DVA"],
  ["scl", "Matching images with words", "L_SCL"],
  ["vld", "Staying close to what it knew", "L_VLD"],
];
const WIDTH = 240;
const HEIGHT = 72;
const EDGE = 5;

export function lossCharts() {
  const charts = LOSSES.map(([name, words, term]) => chart(name, words, term));
  const element = h(
    "div",
    { class: "losses", hidden: true },
    h("h2", {}, "How the learning goes"),
    h("p", { class: "soft" }, "What it still gets wrong, in three ways. The first two should fall; the third shows how far it has moved from what it knew."),
    h("div", { class: "charts" }, charts.map((c) => c.element)),
  );
  /** Take in the progress of a job, of which some has no losses yet. */
  function add({ stage, step, loss }) {
    if (!loss || stage !== "training") return;
    element.hidden = false;
    for (const one of charts) one.add(step, loss[one.name]);
  }
  return { element, add };
}

function chart(name, words, term) {
  let points = [];
  const value = h("span", { class: "value" }); // no output: nobody wants to hear each step
  const line = svg("polyline", { class: "line" });
  const dot = svg("path", { class: "dot" }); // of no length: its round ends stay round when the image is stretched
  const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" }, line, dot);
  const element = h(
    "figure",
    { class: `card chart ${name}` },
    h("figcaption", {}, h("span", {}, words, h("abbr", { title: `The loss ${term} of the method` }, term)), value),
    h("div", { class: "plot" }, image),
  );
  function add(step, loss) {
    points = points.filter(([at]) => at < step); // a job that was cut off goes back a little
    points.push([step, loss]);
    const [first, last] = [points[0][0], points.at(-1)[0]];
    const values = points.map(([, v]) => v);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const placed = points.map(([at, v]) => [
      EDGE + ((WIDTH - 2 * EDGE) * (at - first)) / Math.max(1, last - first),
      EDGE + (HEIGHT - 2 * EDGE) * (1 - (v - low) / (high - low || 1)),
    ]);
    line.setAttribute("points", placed.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    const [x, y] = placed.at(-1);
    dot.setAttribute("d", `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    value.textContent = shown(loss);
    image.setAttribute("aria-label", `${words}: from ${shown(values[0])} to ${shown(loss)} in ${last} steps.`);
  }
  return { name, element, add };
}

function shown(loss) {
  return loss >= 10 ? loss.toFixed(1) : loss >= 0.01 ? loss.toFixed(2) : loss.toFixed(4);
}
