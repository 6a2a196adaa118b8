// Card that keeps the corrections, trains again with them, and says what they brought.

import { announce, button, h, replace } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { follow } from "../../lib/service/event_stream.js";
import { requestJson } from "../../lib/service/http.js";
import { isChance, judged } from "../../lib/sorting/check.js";
import { learned, save, trainAgain, trainFirst } from "../../lib/sorting/corrections.js";
import { unsureOf } from "../../lib/sorting/groups.js";
import { count, percent, STATUSES, stageWords, timeLeft } from "../../lib/words.js";
import { comparisonOf, earlierVersion } from "../result/verdict.js";
import { STOCK } from "../try/model_select.js";

/** @typedef {NonNullable<Sorting["training"]>} Training */
/** @import { Sorting } from "../../lib/sorting/sorting.js" */

/** Return what is labelled, in words. @param {Sorting} sorting */
export function labelledWords({ labelledClasses: classes, lessons }) {
	return lessons.length
		? `${count(classes.length, "class", "classes")}, ${count(lessons.length, "photo")} labelled.`
		: "";
}

/** Return a warning of new classes with a single image, which a training makes worse than their name alone.
 *
 *  @param {SortedImage[]} labelled @param {string[]} trained */
function lonelyWords(labelled, trained) {
	const added = labelled.map(({ label }) => String(label)).filter((label) => !trained.includes(label));
	const lonely = [...new Set(added)].filter((name) => added.filter((other) => other === name).length === 1);
	if (!lonely.length) return "";
	return ` Only one image of ${lonely.join(", ")} is labelled. Label more of it before you train: with one image, a new class may be recognised worse than by its name alone.`;
}

/** Return how the sorts before and after the training compare on the checked images, which are left out of it.
 *
 *  @param {Map<SortedImage, boolean>} before @param {Map<SortedImage, boolean>} after */
function comparedWords(before, after) {
	const both = [...after].filter(([image]) => before.has(image));
	if (!both.length)
		return "The model learned from all your labels, so there are none left to compare the two sorts with. Use ‘Check with 20’ before the next training.";
	const changed = (to) => both.filter(([image, right]) => right === to && before.get(image) !== to).length;
	const [gained, lost, now] = [changed(true), changed(false), both.filter(([, right]) => right).length];
	const verdict = isChance(gained, lost)
		? " Chance may explain the difference."
		: gained > lost
			? ""
			: " The earlier sort is better: choose its model above.";
	return `Of the ${count(both.length, "photo")} that you checked, ${now - gained + lost} were sorted right before, and ${now} are now.${now === now - gained + lost ? "" : verdict}`;
}

/** Create the card. `model` returns the chosen model, or nothing for the pre-trained one and for previews; `use` gets the
 *  id of the new model.
 *
 *  @param {Sorting} sorting
 *  @param {{ model: () => ChoosableModel | null, use: (id: string) => Promise<void>, signal: AbortSignal }} options */
export function trainingCard(sorting, { model, use, signal }) {
	const sentence = h("p", {});
	const train = button("", begin, "main");
	const keep = button("Save corrections", store);
	const saved = h("span", { class: "soft", role: "status" });
	const stage = h("p", { class: "stage" });
	const remaining = h("p", { class: "soft" });
	const bar = h("progress", { max: "1", "aria-label": "Training progress" });
	const link = h("a", { class: "button quiet small" }, "Follow the job");
	const meter = h(
		"div",
		{ class: "meter", hidden: true },
		h("div", { class: "meter-top" }, h("div", {}, stage, remaining), link),
		bar,
	);
	const brought = h("p", { class: "brought", role: "status" });
	const trouble = h("div", {});
	const actions = h("div", { class: "row" }, train, keep, saved);
	const element = h(
		"div",
		{ class: "card training", role: "group", "aria-label": "Training with your corrections", tabindex: "-1" },
		brought,
		sentence,
		actions,
		meter,
		trouble,
	);
	let busy = false;

	/** @param {() => Promise<void>} act */
	async function guarded(act) {
		busy = true;
		element.focus(); // its button goes
		replace(trouble);
		refresh();
		try {
			await act();
		} catch (error) {
			showProblem(trouble, error);
		} finally {
			busy = false;
			refresh();
		}
	}
	function store() {
		return guarded(async () => {
			await save(sorting, signal);
			announce("Corrections saved.");
		});
	}
	function begin() {
		return guarded(async () => {
			const own = model(); // another may be chosen during the upload
			const before = own ?? { id: sorting.model };
			/** @type {Training["labels"]} */
			const labels = sorting.lessons.map((image) => [image, image.label]); // others may follow
			if (own) await save(sorting, signal);
			/** @param {number} sent */
			const sending = (sent) => {
				saved.textContent = `Sending ${percent(sent)}`;
			};
			const job = await (own ? trainAgain(sorting, own.id, labels, signal) : trainFirst(sorting, sending, signal));
			const classes = new Map(sorting.images.map((image) => [image, image.predictions?.[0].class_name]));
			sorting.training = {
				id: job.id,
				before,
				classes,
				labels,
				unsure: unsureOf(sorting.images, sorting.threshold).length,
				checked: judged(sorting.images),
				adopted: null,
				words: "",
				ended: false,
			};
			watch().catch(() => {}); // shows its own errors
		});
	}

	/** @param {Progress} progress */
	function progress({ stage: name, fraction, eta_seconds: seconds, model_eta_seconds: modelSeconds, ...more }) {
		stage.textContent = stageWords({ stage: name, ...more });
		bar.value = fraction ?? 0;
		remaining.textContent = timeLeft(name, modelSeconds, seconds).text;
	}
	/** Follow the job, use its model as soon as it is there, and compare the reports at the end. */
	async function watch() {
		const training = sorting.training;
		if (!training) return;
		const path = /** @type {const} */ (`/jobs/${encodeURIComponent(training.id)}`);
		const isCurrent = () => sorting.training === training && !signal.aborted;
		refresh();
		try {
			stage.textContent = "Waiting in the queue";
			bar.removeAttribute("value");
			await follow(training.id, {
				signal,
				onLost: (isLost) => {
					if (isLost) remaining.textContent = "Reconnecting …";
				},
				onEvent: (event) => {
					if (event.name === "progress") progress(event.data);
					if (event.type === "model_published")
						adopt(training, path, isCurrent).catch((error) => isCurrent() && showProblem(trouble, error));
				},
			});
			if (!isCurrent()) return;
			const job = await requestJson(path, { signal });
			training.ended = true;
			if (!job.model_id) throw new Error(job.error?.detail ?? `${STATUSES[job.status]}. The corrections are kept.`);
			await adopt(training, path, isCurrent);
			const comparison = comparisonOf(job.metrics);
			if (comparison) training.words = h("p", {}, earlierVersion(comparison, training.before)).textContent;
		} catch (error) {
			if (isCurrent()) {
				training.ended = true;
				showProblem(trouble, error);
			}
		}
		refresh();
		if (brought.textContent) announce(brought.textContent);
	}
	/** Ask the new model for all images, once, unless the user has chosen another one meanwhile.
	 *
	 *  @param {Training} training @param {`/jobs/${string}`} path @param {() => boolean} isCurrent */
	async function adopt(training, path, isCurrent) {
		if (training.adopted || sorting.model !== training.before.id) return;
		const { model_id: id } = await requestJson(path, { signal });
		if (training.adopted || !id) return;
		training.adopted = id; // once
		learned(sorting, training, id);
		await use(id).catch((error) => {
			training.adopted = null;
			throw error;
		});
		if (isCurrent()) refresh();
	}

	/** Return what the corrections brought: the accuracies of both versions, and what has changed here. @param {Training} training */
	function result({ words, adopted, classes, unsure, checked }) {
		if (!adopted || sorting.model !== adopted || sorting.open.length) return words;
		const moved = sorting.images.filter(
			(image) => image.predictions && classes.get(image) && image.predictions[0].class_name !== classes.get(image),
		);
		const now = unsureOf(sorting.images, sorting.threshold).length;
		return [
			words,
			`${count(moved.length, "image")} moved, ${now} unsure (${unsure} before).`,
			comparedWords(checked, judged(sorting.images)),
		]
			.filter(Boolean)
			.join(" ");
	}
	function refresh() {
		const { training, unsaved, lessons } = sorting;
		const running = training !== null && !training.ended;
		const isFirst = sorting.model === STOCK;
		const able = isFirst ? lessons.length > 0 : Boolean(model()) && lessons.length + unsaved.length > 0;
		const tooFew = isFirst && sorting.labelledClasses.length < 2;
		brought.textContent = training ? result(training) : "";
		brought.hidden = !brought.textContent;
		element.hidden = !lessons.length && !unsaved.length && !running && brought.hidden;
		const advice = tooFew
			? " A model needs at least two."
			: isFirst
				? ""
				: !model()
					? " The model isn't ready yet. Once it is, it can learn from them."
					: lonelyWords(lessons, sorting.trained);
		sentence.textContent = lessons.length ? labelledWords(sorting) + advice : "";
		sentence.hidden = !sentence.textContent;
		actions.hidden = !able || running;
		train.textContent = isFirst ? "Make a model" : "Train again with these corrections";
		train.disabled = busy || tooFew;
		keep.hidden = isFirst;
		keep.disabled = busy || !unsaved.length;
		saved.textContent = busy ? "Saving …" : unsaved.length ? "" : "Saved.";
		meter.hidden = !running;
		if (training) link.href = `#/jobs/${encodeURIComponent(training.id)}`;
	}
	if (sorting.training && !sorting.training.ended) watch();
	return { element, refresh };
}
