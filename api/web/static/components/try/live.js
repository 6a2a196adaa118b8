// Live answers: the camera's image, and a bar per class. The next image is sent once the last one is answered.

import { frame, still } from "../camera.js";
import { classify } from "../../lib/classify.js";
import { announce, h, replace } from "../../lib/dom.js";
import { problemBox } from "../../lib/problem.js";
import { percent, roughPercent } from "../../lib/words.js";

const SIDE = 320; // pixels of a sent image
const MAX_BARS = 8;
const INTERVAL_MS = 100; // at least, between two requests
const RETRY_MS = 2_000;

/** Create the view of an open camera. `request` returns the options of a classification, or null without class names.
 *  `snap` gets a promise of the frame that the user keeps. */
export function liveAnswers({ request, snap }, video, close, signal) {
  const bars = h("ol", { class: "shares", "aria-label": "Live answers" });
  const trouble = h("div", {});
  const keep = h("button", { type: "button", class: "main", onclick: () => snap(frame(video).then((item) => (item ? [item] : []))) }, "Snap");
  const rows = new Map(); // by class name
  let said = "";
  let last = "";
  let failure = "";

  function draw({ results: [{ predictions, error }], preview }, names) {
    if (error) throw new Error(error.detail);
    const shown = predictions.slice(0, MAX_BARS);
    const [best] = shown;
    const places = new Map(names.map((name, i) => [name.name ?? name, i]));
    shown.sort((a, b) => places.get(a.class_name) - places.get(b.class_name)); // bars keep their places
    const elements = shown.map((prediction) => row(prediction, prediction === best, preview));
    if (elements.length !== bars.children.length || elements.some((element, i) => element !== bars.children[i])) replace(bars, elements);
    // Screen readers hear a class that was the best one twice.
    if (best.class_name === last && last !== said) announce((said = last));
    last = best.class_name;
  }
  function row({ class_name: name, kind, probability }, isBest, rough) {
    if (!rows.has(name)) {
      const share = h("span", { class: "share" });
      const fill = h("span", { class: "fill" });
      rows.set(name, { share, fill, element: h("li", {}, h("span", { class: "share-name" }, h("span", {}, name)), share, h("span", { class: "track", "aria-hidden": "true" }, fill)) });
    }
    const { share, fill, element } = rows.get(name);
    const value = rough ? roughPercent(probability) : percent(probability);
    element.className = `${kind} ${isBest ? "best-now" : ""}`;
    share.textContent = value;
    fill.classList.toggle("striped", Boolean(rough));
    fill.style.setProperty("width", rough ? value : `${100 * probability}%`);
    return element;
  }
  async function run() {
    while (!signal.aborted) {
      const started = performance.now();
      let pause = INTERVAL_MS;
      try {
        const options = request();
        const file = options && (await still(video, SIDE));
        if (file) draw(await classify([{ file, name: "camera.jpg" }], { ...options, top_k: MAX_BARS }, signal), options.class_names);
        failure = "";
        replace(trouble, !options && h("p", { class: "soft" }, "Type the class names to choose from."));
      } catch (error) {
        if (signal.aborted) return;
        if (failure !== error.message) replace(trouble, problemBox(error)); // an alert would be read again
        failure = error.message;
        pause = RETRY_MS;
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + pause - performance.now())));
    }
  }
  run();
  const done = h("button", { type: "button", class: "quiet", onclick: close }, "Close", h("span", { class: "unseen" }, " the camera"));
  return h(
    "div",
    { class: "card camera live", role: "group", "aria-label": "Live" },
    h("div", {}, video, h("div", { class: "row" }, keep, done)),
    h("div", {}, bars, trouble),
  );
}
