// Card of one image: large thumbnail, the best class and one bar. A click shows the rest.

import { button, h, removeButton, replace, unseen } from "../../lib/dom.js";
import { percent, roughPercent } from "../../lib/words.js";
import { tip } from "../tip.js";

const SHOWN = 5;
const MIN_PROBABILITY = 0.5;
const MIN_LEAD = 0.15;

/** Return true if the best probability, or its lead over the second, is too small. @param {Prediction[]} predictions */
function isUnsure(predictions) {
	const [first, second] = predictions;
	return first.probability < MIN_PROBABILITY || first.probability - (second?.probability ?? 0) < MIN_LEAD;
}

/** Return the trained and the new class that are hard to tell apart in this image, or null. Then the best two are one
 *  of each, and either the lead is small or the similarities have the other order than the probabilities. @param {Prediction[]} predictions */
export function confused(predictions) {
	const [first, second] = predictions;
	if (!second || first.kind === second.kind) return null;
	const close = first.probability - second.probability < MIN_LEAD;
	if (!close && first.similarity >= second.similarity) return null;
	const [trained, added] = first.kind === "trained" ? [first, second] : [second, first];
	return { trained: trained.class_name, added: added.class_name };
}

/** Create the card. `image.truth` is the true class once it is known; `judged` is called when the user sets it.
 *  `names` returns the class names to choose from.
 *
 *  @param {PageImage & { truth?: string | null, heldOut?: string }} image
 *  @param {{ remove: () => void, judged: () => void, names: () => string[] }} options */
export function predictionCard(image, { remove, judged, names }) {
	/** @type {Schemas["ImageResult"] | null} */
	let now = null;
	/** @type {Schemas["ImageResult"] | null} */
	let before = null;
	/** @type {Schemas["Classification"]} */
	let response;
	let past = false; // shows the predictions of the pre-trained model
	let offered = ""; // the classes of the open choice after "Wrong", the predicted one first
	const thumb = h("img", { alt: image.name, hidden: true });
	const blank = h("span", { class: "blank" }, image.name);
	const best = h("p", { class: "best" });
	const track = h("span", { class: "track", "aria-hidden": "true" });
	const marks = h("div", { class: "marks" });
	const rest = h("div", { class: "columns" });
	const details = h(
		"details",
		{ class: "rest", hidden: true },
		h("summary", {}, "All classes", unseen(` for ${image.name}`)),
		h("p", { class: "file soft" }, image.name),
		rest,
	);
	const element = h(
		"li",
		{ class: "card answer" },
		h("div", { class: "shot", onclick: unfold }, blank, thumb, removeButton(image.name, remove)),
		best,
		track,
		h("div", { class: "foot" }, marks, details),
	);

	/** Open or close the rest, unless the button was clicked. @param {MouseEvent} event */
	function unfold(event) {
		if (event.target instanceof Element && !event.target.closest("button")) details.open = !details.open;
	}
	/** Redraw after the image check. */
	function refresh() {
		if (image.url && thumb.hidden) {
			thumb.src = image.url;
			thumb.hidden = false;
			blank.hidden = true;
		}
		if (image.problem?.level === "bad") replace(best, h("span", { class: "bad-text" }, image.problem.detail));
	}
	/** Show results: `current` of the model, `stock` of the pre-trained model or null. `whole` is the response of `current`.
	 *
	 *  @param {Schemas["ImageResult"]} current @param {Schemas["ImageResult"] | undefined} stock
	 *  @param {Schemas["Classification"]} whole */
	function show(current, stock, whole) {
		now = current;
		before = stock ?? null;
		response = whole;
		draw();
	}
	/** Remove the predictions. */
	function clear() {
		now = null;
		details.hidden = true;
		for (const part of [best, track, marks]) replace(part);
		refresh();
	}
	/** Show the predictions of the pre-trained model while `on`. @param {boolean} on */
	function showBefore(on) {
		past = on;
		draw();
	}
	function draw() {
		if (!now) return;
		const { predictions, error } = now;
		details.hidden = !predictions;
		if (!predictions) {
			replace(best, h("span", { class: "bad-text" }, error?.detail));
			replace(track);
			replace(marks);
			return;
		}
		const shown = past && before?.predictions ? before.predictions : predictions;
		const rough = response.preview && !past;
		const [first] = shown;
		const right = image.truth ? first.class_name === image.truth : null;
		replace(
			best,
			h("strong", { class: right === null ? "" : right ? "right" : "wrong" }, first.class_name),
			h("span", { class: "share" }, rough ? roughPercent(first.probability) : percent(first.probability)),
			rough && h("span", { class: "tag rough-tag" }, "preview"),
			!past && first.kind === "new" && newTag(shown),
			!past && now.something_else && h("span", { class: "tag poor" }, "something else"),
			isUnsure(shown) && h("span", { class: "tag open" }, "unsure"),
		);
		const width = rough ? roughPercent(first.probability) : `${100 * first.probability}%`;
		replace(
			track,
			h("span", { class: `fill ${rough ? "striped" : ""} ${past ? "past" : first.kind}`, style: { width } }),
		);
		drawMarks(first.class_name);
		const hint = confused(predictions);
		replace(
			rest,
			hint && h("p", { class: "soft wide" }, confusion(hint)),
			before?.predictions && column(before.predictions, "Before", true),
			column(predictions, before?.predictions ? "Now" : null, false, rough),
		);
	}
	/** @param {string} predicted */
	function drawMarks(predicted) {
		if (past) return;
		if (image.truth) {
			const edit =
				!image.heldOut && button(["Change", unseen(` the class of ${image.name}`)], () => judge(null), "quiet small");
			replace(marks, h("span", { class: "soft" }, predicted === image.truth ? "Right" : `It is ${image.truth}`), edit);
			return;
		}
		if (marks.querySelector("select") && offered === choices(predicted).join("\n")) return; // someone is choosing
		const mark = (label, act) =>
			Object.assign(button(label, act, "quiet small"), { ariaLabel: `${label}: ${image.name}` });
		const right = mark("Right", () => judge(predicted));
		replace(
			marks,
			right,
			mark("Wrong", () => askTruth(predicted)),
		);
	}
	/** The predicted class is among them, since "Wrong" may be a mistake. @param {string} predicted */
	function choices(predicted) {
		return [predicted, ...names().filter((name) => name !== predicted)];
	}
	/** @param {string} predicted */
	function askTruth(predicted) {
		offered = choices(predicted).join("\n");
		const option = (name) => h("option", { value: name }, name === predicted ? `${name} (as predicted)` : name);
		const select = h(
			"select",
			{
				class: "small",
				"aria-label": `True class of ${image.name}`,
				onchange: () => select.value && judge(select.value),
			},
			[h("option", { value: "" }, "It is …"), choices(predicted).map(option)],
		);
		const back = button(["Take back", unseen(`: ${image.name}`)], () => judge(null), "quiet small");
		replace(marks, select, back);
		select.focus();
	}
	/** @param {string | null} truth */
	function judge(truth) {
		image.truth = truth;
		offered = "";
		replace(marks); // with an open choice
		draw();
		marks.querySelector("button")?.focus();
		judged();
	}
	/** Return {now, before}: whether each prediction is right. Null without a true class or a result. */
	function outcome() {
		if (!image.truth || !now?.predictions) return null;
		/** @param {Schemas["ImageResult"]} result */
		const right = (result) => result.predictions?.[0].class_name === image.truth;
		return { now: right(now), before: before ? right(before) : null };
	}
	return { element, refresh, show, clear, showBefore, outcome };
}

const confusion = ({ trained, added }) => `Often confused with ${trained}. Add images of ${added}.`;

/** @param {Prediction[]} predictions */
function newTag(predictions) {
	const hint = confused(predictions);
	return tip("new", `Not trained: recognised by its name alone.${hint ? ` ${confusion(hint)}` : ""}`, {
		class: "tag new",
	});
}

/** @param {Prediction[]} predictions @param {string | null} title @param {boolean} past */
function column(predictions, title, past, rough = false) {
	const bars = predictions.slice(0, SHOWN).map((prediction) => bar(prediction, past, rough));
	const list = h("ol", { class: "shares" }, bars);
	return h("div", { class: past && "past" }, title && h("h2", { class: "minor" }, title), list);
}

/** @param {Prediction} prediction @param {boolean} past @param {boolean} rough */
function bar({ class_name: name, kind, probability }, past, rough) {
	const value = rough ? roughPercent(probability) : percent(probability);
	const width = rough ? value : `${100 * probability}%`;
	const isNew = kind === "new" && !past && h("span", { class: "tag new" }, "new");
	const fill = h("span", { class: `fill ${rough ? "striped" : ""}`, style: { width } });
	return h(
		"li",
		{ class: kind },
		h("span", { class: "share-name" }, h("span", {}, name), isNew),
		h("span", { class: "share" }, value),
		h("span", { class: "track", "aria-hidden": "true" }, fill),
	);
}
