// Requests of the Sort view: the classes of all images, and which images or groups to label next.

import { debounce } from "../dom.js";
import { askInParts, askTogether } from "./ask.js";

/** @import { Sorting } from "./sorting.js" */

const ANY_NAME = "photo"; // the service wants a class name, even for the features alone

export class SortRequests {
	#sorting;
	#acts;
	#signal;
	/** Of the request for the classes. @type {AbortController | null} */
	#classifying = null;
	/** Whether the last request for the classes failed. */
	hasFailed = false;
	/** Of the request for what to label next. @type {AbortController | null} */
	#choosing = null;

	/** `load` chooses a model, `sends` is called before a request is sent, `changed` when requests begin and end, `failed`
	 *  with an error, and `classified` once all labels count. The signal ends all requests.
	 *
	 *  @param {Sorting} sorting
	 *  @param {Record<"load" | "sends" | "changed" | "classified", () => void> & { failed: (error: any) => void }} acts
	 *  @param {AbortSignal} signal */
	constructor(sorting, acts, signal) {
		this.#sorting = sorting;
		this.#acts = acts;
		this.#signal = signal;
		for (const later of [this.classifySoon, this.renamed]) signal.addEventListener("abort", later.cancel);
	}

	get isClassifying() {
		return this.#classifying !== null;
	}

	get isChoosing() {
		return this.#choosing !== null;
	}

	stopClassifying() {
		this.#classifying?.abort();
	}

	stopChoosing() {
		this.#choosing?.abort();
	}

	/** Classify again once labels have changed. A running request sees them at its end. */
	classifySoon = debounce(500, () => this.isClassifying || this.isChoosing || this.classify());
	/** Classify again once class names have changed. */
	renamed = debounce(400, () => this.classify());

	/** Classify the images without an answer, then all images together, until all labels count. */
	async classify() {
		const sorting = this.#sorting;
		this.#classifying?.abort();
		const mine = new AbortController();
		this.#classifying = mine;
		this.hasFailed = false;
		const both = AbortSignal.any([mine.signal, this.#signal]);
		try {
			if (!sorting.images.length) return;
			if (!sorting.model) return this.#acts.load();
			if (sorting.open.length) this.#acts.sends();
			this.#acts.changed();
			const hasNames = sorting.names.length > 0;
			await askInParts(
				sorting.open,
				{ class_names: [ANY_NAME], ...this.#options },
				(images, answer) => both.aborted || sorting.take(images, answer, hasNames),
				both,
			);
			for (;;) {
				const known = this.#known;
				const whole = { ...this.#options, ...this.#labels(known) };
				const asked = JSON.stringify([whole, known.length]);
				if (!sorting.names.length || !known.length || sorting.together === asked) break;
				this.#acts.sends();
				sorting.take(known, await askTogether(known, whole, both), true);
				sorting.together = asked;
			}
		} catch (error) {
			if (error.name !== "AbortError") this.hasFailed = true;
			return this.#acts.failed(error);
		} finally {
			if (this.#classifying === mine) this.#classifying = null;
			this.#acts.changed();
		}
		this.#acts.classified();
	}

	/** Ask which images or groups to label next, and pass the answer and its images to `show`.
	 *
	 *  @param {{ suggest?: number, groups?: number }} extra
	 *  @param {(answer: Schemas["CollectionClassification"], known: SortedImage[]) => Promise<void> | void} show */
	async choose(extra, show) {
		this.#choosing?.abort();
		const mine = new AbortController();
		this.#choosing = mine;
		const known = this.#known;
		this.#acts.sends();
		this.#acts.changed();
		try {
			const answer = await askTogether(
				known,
				{ ...this.#options, ...this.#labels(known), ...extra },
				AbortSignal.any([mine.signal, this.#signal]),
			);
			this.#choosing = null;
			this.#acts.changed();
			await show(answer, known);
		} catch (error) {
			this.#acts.failed(error);
		} finally {
			if (this.#choosing === mine) this.#choosing = null;
			this.#acts.changed();
			this.classifySoon();
		}
	}

	get #known() {
		return this.#sorting.images.filter(({ features }) => features);
	}

	get #options() {
		const { model, names } = this.#sorting;
		return {
			model,
			...(names.length && { class_names: names.map((entry) => (entry.prompts.length ? entry : entry.name)) }),
		};
	}

	/** @param {SortedImage[]} images */
	#labels(images) {
		return { labels: this.#sorting.labelsOf(images), ...(this.#sorting.rejects && { reject: true }) };
	}
}
