// Live answers: the camera's image, and a bar per class. The next image is sent once the last one is answered.

import { classify } from "../../lib/classify.js";
import { announce, arrange, button, h, replace, unseen } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { percent, roughPercent } from "../../lib/words.js";
import { frame, still } from "../camera.js";

const SIDE = 320; // pixels of a sent image
const MAX_BARS = 8;
const INTERVAL_MS = 100; // at least, between two requests
const RETRY_MS = 2_000;

/** Create the view of an open camera. `request` returns the options of a classification, or null without class names.
 *  `snap` gets a promise of the frame that the user keeps.
 *
 *  @param {{ request: () => Options | null, snap: (files: Promise<DroppedFile[]>) => void }} options
 *  @param {HTMLVideoElement} video @param {() => void} close @param {AbortSignal} signal */
export function liveAnswers({ request, snap }, video, close, signal) {
	const bars = h("ol", { class: "shares", "aria-label": "Live answers" });
	const trouble = h("div", {});
	const keep = button("Snap", () => snap(frame(video).then((item) => (item ? [item] : []))), "main");
	/** @type {Map<string, { share: HTMLElement, fill: HTMLElement, element: HTMLElement }>} by class name */
	const rows = new Map();
	let said = "";
	let last = "";
	let failure = "";

	/** @param {Schemas["Classification"]} answer @param {Options["class_names"]} names */
	function draw({ results: [{ predictions, error }], preview }, names) {
		if (!predictions) throw new Error(error?.detail);
		const shown = predictions.slice(0, MAX_BARS);
		const [best] = shown;
		const places = names.map((name) => (typeof name === "string" ? name : name.name));
		shown.sort((a, b) => places.indexOf(a.class_name) - places.indexOf(b.class_name)); // bars keep their places
		const elements = shown.map((prediction) => row(prediction, prediction === best, preview));
		arrange(bars, elements);
		// Screen readers hear a class that was the best one twice.
		if (best.class_name === last && last !== said) {
			said = last;
			announce(said);
		}
		last = best.class_name;
	}
	function row({ class_name: name, kind, probability }, isBest, rough) {
		const { share, fill, element } = rows.get(name) ?? newRow(name);
		const value = rough ? roughPercent(probability) : percent(probability);
		element.className = `${kind} ${isBest ? "best-now" : ""}`;
		share.textContent = value;
		fill.classList.toggle("striped", Boolean(rough));
		fill.style.setProperty("width", rough ? value : `${100 * probability}%`);
		return element;
	}
	/** @param {string} name */
	function newRow(name) {
		const share = h("span", { class: "share" });
		const fill = h("span", { class: "fill" });
		const track = h("span", { class: "track", "aria-hidden": "true" }, fill);
		const one = {
			share,
			fill,
			element: h("li", {}, h("span", { class: "share-name" }, h("span", {}, name)), share, track),
		};
		rows.set(name, one);
		return one;
	}
	async function run() {
		while (!signal.aborted) {
			const started = performance.now();
			let pause = INTERVAL_MS;
			try {
				const options = request();
				const image = options && (await still(video, SIDE));
				if (image) {
					const file = new File([image], "camera.jpg");
					draw(
						await classify([{ file, name: file.name }], { ...options, top_k: MAX_BARS }, signal),
						options.class_names,
					);
				}
				failure = "";
				replace(trouble, !options && h("p", { class: "soft" }, "Type the class names to choose from."));
			} catch (error) {
				if (signal.aborted) return;
				if (failure !== error.message) showProblem(trouble, error); // an alert would be read again
				failure = error.message;
				pause = RETRY_MS;
			}
			await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + pause - performance.now())));
		}
	}
	run();
	const done = button(["Close", unseen(" the camera")], close);
	return h(
		"div",
		{ class: "card camera live", role: "group", "aria-label": "Live" },
		h("div", {}, video, h("div", { class: "row" }, keep, done)),
		h("div", {}, bars, trouble),
	);
}
