// Card that makes a model of the labels, or the next version of the one that sorts, and follows the training.

import { button, h, newId, replace } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { attempt, showProblem } from "../../lib/problem.js";
import { follow } from "../../lib/service/event_stream.js";
import { requestJson, upload } from "../../lib/service/http.js";
import { count, STATUSES, stageWords, timeLeft } from "../../lib/words.js";
import { agrees } from "../train_again.js";
import { askName } from "./name_dialog.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

const keyOf = newKey();

/** Create the card. `model` returns the chosen model of the person's own, or nothing; `use` gets the id of a new one.
 *
 *  @param {OpenPile} pile
 *  @param {{ model: () => ChoosableModel | null, use: (id: string) => Promise<void>, signal: AbortSignal }} options */
export function trainingCard(pile, { model, use, signal }) {
	const stored = `clipcite-training-${pile.id}`; // the job, over a reload
	let job = localStorage.getItem(stored);
	let isBusy = false;
	const make = button("", begin, "main");
	const all = h("input", { type: "checkbox", id: newId("all"), onchange: () => refresh() });
	const loses = h("span", { class: "soft" }, "Then nothing measures the new model.");
	const label = h("label", { for: all.id }, "Train on the random photos, too");
	const allBox = h("p", { class: "option" }, all, label, " ", loses);
	const about = h("p", {});
	const stage = h("p", { class: "stage" });
	const remaining = h("p", { class: "soft" });
	const bar = h("progress", { max: "1", "aria-label": "Training progress" });
	const link = h("a", { class: "button quiet small" }, "Follow the job");
	const top = h("div", { class: "meter-top" }, h("div", {}, stage, remaining), link);
	const meter = h("div", { class: "meter" }, top, bar);
	const brought = h("p", { class: "brought", role: "status" });
	const trouble = h("div", {});
	const element = h(
		"div",
		{ class: "card training", role: "group", "aria-label": "Training with your labels", tabindex: "-1" },
		[brought, about, h("div", { class: "row" }, make), allBox, meter, trouble],
	);

	async function begin() {
		const own = model(); // another may be chosen meanwhile
		const name = own
			? null
			: await askName("Name of the model", {
					hint: "You find the model by its name, here, under Models and in your programs.",
					yes: "Make the model",
					signal,
				});
		if (!own && !name) return;
		isBusy = true;
		refresh();
		await attempt(trouble, async () => {
			await pile.settled();
			refresh(); // the number of labels
			const { path, form } = training(own?.id ?? null, name);
			const check = () => upload(`${path}?dry_run=true`, form, { signal });
			if (own && !(await agrees(make.textContent, check(), signal))) return;
			element.focus(); // its button goes
			// A lost response and a second press give the same job.
			const key = keyOf([path, [...form], pile.state?.revision]);
			job = (await upload(path, form, { headers: { "Idempotency-Key": key }, signal })).id;
			localStorage.setItem(stored, job);
			watch(job);
		});
		isBusy = false;
		refresh();
	}
	/** Return the request of the training. @param {string | null} own @param {string | null} name */
	function training(own, name) {
		const form = new FormData();
		form.append("pile", pile.id);
		if (name) form.append("name", name);
		if (all.checked) form.append("pile_drawn", "train");
		const path = /** @type {`/models/${string}/extend`} */ (
			own ? `/models/${encodeURIComponent(own)}/extend` : "/adapt"
		);
		return { path, form };
	}

	/** @param {Progress} progress */
	function progress({ stage: name, fraction, eta_seconds: seconds, model_eta_seconds: modelSeconds, ...more }) {
		stage.textContent = stageWords({ stage: name, ...more });
		bar.value = fraction ?? 0;
		remaining.textContent = timeLeft(name, modelSeconds, seconds).text;
	}
	/** Follow the job, sort with its model as soon as it is there, and say how it was judged. @param {string} id */
	async function watch(id) {
		const path = /** @type {const} */ (`/jobs/${encodeURIComponent(id)}`);
		let isUsed = false;
		async function adopt() {
			const { model_id: made } = await requestJson(path, { signal });
			if (!made || isUsed) return;
			isUsed = true;
			await use(made);
		}
		stage.textContent = "Waiting in the queue";
		bar.removeAttribute("value");
		link.href = `#/jobs/${encodeURIComponent(id)}`;
		brought.textContent = "";
		refresh();
		try {
			await follow(id, {
				signal,
				onLost: (isLost) => {
					if (isLost) remaining.textContent = "Reconnecting …";
				},
				onEvent: (event) => {
					if (event.name === "progress") progress(event.data);
					if (event.type === "model_published") adopt().catch((error) => showProblem(trouble, error));
				},
			});
			if (signal.aborted) return;
			const ended = await requestJson(path, { signal });
			localStorage.removeItem(stored);
			job = null;
			if (!ended.model_id) throw new Error(ended.error?.detail ?? `${STATUSES[ended.status]}. Your labels are kept.`);
			await adopt();
			replace(
				brought,
				`The photos are sorted by ${ended.name ?? "the new model"}. ${ended.metrics?.sentences?.[0] ?? ""} `,
				h("a", { href: link.href }, "Its result"),
			);
		} catch (error) {
			if (error.status === 404) localStorage.removeItem(stored); // the job was deleted
			if (!signal.aborted) job = null;
			showProblem(trouble, error);
		}
		refresh();
	}

	function refresh() {
		const counts = pile.state?.counts;
		const isRunning = job !== null;
		const labels = counts ? counts.labelled - counts.none : 0; // "none of these" trains nothing
		meter.hidden = !isRunning;
		make.hidden = isRunning || !labels;
		about.hidden = make.hidden;
		about.textContent = model()
			? "Train the next version of the model with your labels."
			: "Make a model of your labels. It sorts this pile, and the next photos.";
		make.textContent = model() ? `Train again with ${count(labels, "label")}` : "Make a model";
		make.disabled = isBusy;
		allBox.hidden = make.hidden || !counts?.drawn;
		loses.hidden = !all.checked;
		brought.hidden = !brought.textContent;
		element.hidden = make.hidden && !isRunning && brought.hidden && !trouble.childElementCount;
	}
	if (job) watch(job);
	return { element, refresh };
}
