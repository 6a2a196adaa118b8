// Answers for the tried images, now and before training: their cards, and how many are right.

import { askSomethingElse, classify } from "../../lib/classify.js";
import { arrange, h, replace } from "../../lib/dom.js";
import { showProblem } from "../../lib/problem.js";
import { tried } from "../../lib/tried.js";
import { count } from "../../lib/words.js";
import { STOCK } from "./model_select.js";
import { predictionCard } from "./predictions.js";

/** @import { TriedImage } from "../../lib/tried.js" */

export class Answers {
	element = h("ul", { class: "answers" });
	tally = h("p", { class: "tally", role: "status" });
	timing = h("p", { class: "soft" });
	trouble = h("div", {});
	/** @type {Map<TriedImage, ReturnType<typeof predictionCard>>} */
	#cards = new Map();
	#pending = new AbortController();

	/** `request` returns the options of a request to a model; `remove` gets an image, `judged` is called once the true class of
	 *  one is known, and `trained` gets the trained classes among the names.
	 *
	 *  @param {{ models: ReturnType<typeof import("./model_select.js").modelSelect>, request: (model: string) => Options,
	 *            remove: (image: TriedImage) => void, judged: () => void, trained: (names: Set<string>) => void,
	 *            signal: AbortSignal }} options */
	constructor({ models, request, remove, judged, trained, signal }) {
		this.models = models;
		this.request = request;
		this.remove = remove;
		this.judged = judged;
		this.trained = trained;
		this.signal = signal;
	}

	draw() {
		for (const image of this.#cards.keys()) if (!tried.images.includes(image)) this.#cards.delete(image);
		for (const image of tried.images) if (!this.#cards.has(image)) this.#cards.set(image, this.#card(image));
		const cards = [...this.#cards.values()];
		for (const card of cards) card.refresh();
		arrange(
			this.element,
			cards.map((card) => card.element),
		);
		this.#count();
	}

	/** @param {TriedImage} image */
	#card(image) {
		const names = () => tried.names.map((entry) => entry.name);
		return predictionCard(image, { remove: () => this.remove(image), judged: () => this.#count(), names });
	}

	/** Show the answers of the pre-trained model while `on`. @param {boolean} on */
	showBefore(on) {
		for (const card of this.#cards.values()) card.showBefore(on);
	}

	/** Count the right answers, now and before. */
	#count() {
		const known = [...this.#cards.values()].map((card) => card.outcome()).filter((outcome) => outcome !== null);
		/** @param {"now" | "before"} when */
		const right = (when) => known.filter((outcome) => outcome[when]).length;
		const compared = known.every((outcome) => outcome.before !== null) && this.models.current();
		const before = compared ? ` now, ${right("before")} before` : "";
		this.tally.textContent = known.length ? `Right: ${right("now")} of ${known.length}${before}` : "";
		this.judged();
	}

	/** Classify all images, instead of a request that is on its way. */
	async ask() {
		this.#pending.abort();
		this.#pending = new AbortController();
		const until = AbortSignal.any([this.#pending.signal, this.signal]);
		const images = tried.images.filter((image) => image.problem?.level !== "bad");
		if (!images.length || !tried.names.length) {
			this.element.removeAttribute("aria-busy");
			this.timing.textContent = "";
			for (const card of this.#cards.values()) card.clear();
			return this.#count();
		}
		this.element.setAttribute("aria-busy", "true");
		try {
			await this.#classify(images, until);
			replace(this.trouble);
		} catch (error) {
			showProblem(this.trouble, error);
		} finally {
			if (!until.aborted) this.element.removeAttribute("aria-busy");
		}
	}

	/** @param {TriedImage[]} images @param {AbortSignal} until */
	async #classify(images, until) {
		const model = this.models.current();
		const started = performance.now();
		const hasTrained = tried.names.some(({ name }) => model?.trained_classes.includes(name));
		const options = this.request(this.models.id());
		const [now, before] = await Promise.all([
			askSomethingElse((more) => classify(images, { ...options, ...more }, until), hasTrained),
			model ? this.#classifyStock(images, model, until) : null,
		]);
		for (const [i, image] of images.entries()) this.#cards.get(image)?.show(now.results[i], before?.[i], now);
		this.#count();
		this.trained(new Set(now.class_names.filter(({ kind }) => kind === "trained").map(({ name }) => name)));
		const seconds = ((performance.now() - started) / 1000).toFixed(2);
		const adjusted = " The percentages are adjusted to how often the model is right.";
		this.timing.textContent = `${count(images.length, "image")} in ${seconds} s.${now.calibration?.calibrated ? adjusted : ""}`;
	}

	/** Classify with the pre-trained model. Its results don't depend on the strength, so one set of them is kept.
	 *
	 *  @param {TriedImage[]} images @param {ChoosableModel} model @param {AbortSignal} until */
	async #classifyStock(images, model, until) {
		const options = this.request(`${STOCK}:${model.backbone}`);
		const text = JSON.stringify(options);
		const { stock } = tried;
		const isSame = stock?.text === text && stock.images.length === images.length;
		if (isSame && images.every((image, i) => image === stock.images[i])) return stock.results;
		const { results } = await classify(images, options, until);
		tried.stock = { text, images, results };
		return results;
	}
}
