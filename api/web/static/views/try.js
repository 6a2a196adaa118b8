// Try view: classifies images among any class names, again after every change.

import { hasCamera, openCamera } from "../components/camera.js";
import { classifyPrograms, codeFor } from "../components/code.js";
import { acceptDrops, dropZone, onPhone } from "../components/dropzone.js";
import { EARLY } from "../components/result/test_images.js";
import { trainAgainButton } from "../components/train_again.js";
import { Answers } from "../components/try/answers.js";
import { beforeButton } from "../components/try/before_button.js";
import { chipField } from "../components/try/chips.js";
import { liveAnswers } from "../components/try/live.js";
import { modelSelect } from "../components/try/model_select.js";
import { hasAddress, showOnPhone } from "../components/try/phone.js";
import { strengthSlider } from "../components/try/strength.js";
import { announce, button, debounce, h, replace } from "../lib/dom.js";
import { imagesOf } from "../lib/files/dropped_files.js";
import { attempt, noImagesBox, showProblem } from "../lib/problem.js";
import { MAX_IMAGES, tried } from "../lib/tried.js";
import { count } from "../lib/words.js";

/** @import { TriedImage } from "../lib/tried.js" */

const UNSURE =
	": the best class has less than 50%, or leads the next by less than 15 points. Probabilities compare these classes only, so an image of something else gets one of them too.";

/** @param {{ parameter?: string, signal: AbortSignal }} options */
export const tryView = ({ parameter, signal }) => new TryView(parameter, signal).element;

class TryView {
	/** @param {string | undefined} parameter @param {AbortSignal} signal */
	constructor(parameter, signal) {
		this.signal = signal;
		/** @param {any} error */
		const failed = (error) => showProblem(this.answers.trouble, error);
		this.models = modelSelect({ choose: (id) => this.#choose(id), failed, signal });
		this.chips = chipField(tried.names, () => this.#soon());
		this.slider = strengthSlider((alpha) => {
			tried.alpha = alpha;
			this.#askSoon();
		});
		this.answers = new Answers({
			models: this.models,
			request: (model) => this.#request(model),
			remove: (image) => this.#remove(image),
			judged: () => this.teach.refresh(),
			trained: this.chips.kinds,
			signal,
		});
		this.teach = trainAgainButton({
			model: this.models.id,
			images: () => this.#taught().map(({ file, name, truth }) => ({ file, name, className: truth ?? "" })),
			started: () => tried.keep(tried.images.filter((image) => !this.#taught().includes(image))),
			failed,
			signal,
		});
		this.hold = beforeButton((on) => this.answers.showBefore(on));
		this.zone = dropZone({
			title: onPhone ? "Add images" : "Drop images anywhere here",
			hint: "Best: images that weren't used for training.",
			small: true,
			add: (items) => this.#take(items),
			drops: false,
		});
		this.live = hasCamera && button("Live camera", () => this.#openLive());
		this.phone = hasAddress && button("Use on phone", () => showOnPhone(this.models.id(), signal).catch(failed));
		this.camera = h("div", {});
		this.dropTrouble = h("div", {}); // of added images: answers to requests leave it
		this.hint = h("p", { class: "soft" });
		this.early = h("p", { class: "soft", hidden: true }, EARLY);
		this.rule = h("p", { class: "soft rule" }, h("span", { class: "tag open" }, "unsure"), UNSURE);
		signal.addEventListener("abort", this.#soon.cancel);
		signal.addEventListener("abort", this.#askSoon.cancel);
		this.models.load(parameter ?? tried.model).catch(failed);
		this.#draw();
		this.element = this.#layout();
		acceptDrops(this.element, (items) => this.#take(items));
	}

	#layout() {
		const programs = () => classifyPrograms(this.#request(this.models.id()));
		const code = codeFor({
			curl: () => programs().curl,
			python: () => programs().python,
			javascript: () => programs().javascript,
		});
		const { answers, models, early, chips, zone, live, phone } = this;
		const fields = [models.element, early, chips.element];
		const panel = h("div", { class: "card panel" }, onPhone ? [zone, live, fields] : [fields, zone, live, phone]);
		const main = h(
			"div",
			{},
			this.camera,
			h("div", { class: "row toolbar" }, answers.tally, this.hold),
			[this.hint, this.dropTrouble, answers.trouble, answers.element],
			h("div", { class: "dock" }, this.teach.element, this.slider.element),
			[answers.timing, this.rule, code],
		);
		const side = h("div", { class: "side" }, h("h1", {}, "Try it"), panel);
		return h("section", { class: "try" }, h("div", { class: "two" }, side, main));
	}

	#draw() {
		const [images, names] = [tried.images.length, tried.names.length];
		this.hint.textContent = !images
			? "Add images. Their predictions appear here."
			: !names
				? "Type the class names to choose from."
				: names === 1
					? "A single class always wins. Add classes that could be confused with this one."
					: "";
		this.zone.classList.toggle("slim", images > 0);
		const model = this.models.current();
		this.slider.element.hidden = !model || model.preview || !(images || this.camera.firstChild);
		this.rule.hidden = !images;
		this.hold.hidden = !model || !images;
		this.answers.draw();
	}

	#soon = debounce(150, () => {
		this.#draw();
		this.answers.ask();
	});
	#askSoon = debounce(40, () => this.answers.ask());

	// Model

	/** @param {string} id */
	#choose(id) {
		tried.model = id;
		const model = this.models.current();
		this.early.hidden = !model?.preview;
		if (model) {
			if (tried.shownModel?.id !== id) this.#showNames(model);
			this.slider.set(tried.alpha ?? model.alpha ?? 0, model.alpha);
		}
		this.chips.kinds(new Set(model?.trained_classes ?? []));
		this.#draw();
		this.#soon();
		if (model?.job_id) this.#showHeldOut(model, model.job_id).catch(() => {}); // optional: the job may have been deleted
	}

	/** Replace the classes of the previous model, and keep typed class names. @param {ChoosableModel} model */
	#showNames(model) {
		const trained = new Set([...(tried.shownModel?.trained_classes ?? []), ...model.trained_classes]);
		const typed = tried.names.filter(({ name }) => !trained.has(name));
		this.chips.set([...model.trained_classes.map((name) => ({ name, prompts: [] })), ...typed]);
		tried.shownModel = model;
		tried.alpha = null;
	}

	/** @param {string} model @returns {Options} */
	#request(model) {
		const names = tried.names.map((entry) => (entry.prompts.length ? entry : entry.name));
		const hasStrength = model === this.models.id() && !this.slider.element.hidden;
		return { model, class_names: names, ...(hasStrength && { alpha: this.slider.value() }) };
	}

	/** Return the user's images with a known class, if the model can learn them. Test images must not train. */
	#taught() {
		const model = this.models.current();
		return model?.job_id && !model.preview ? tried.images.filter((image) => image.truth && !image.heldOut) : [];
	}

	// Images

	/** @param {Promise<DroppedFile[]>} items */
	#take(items) {
		return attempt(this.dropTrouble, async () => {
			const found = imagesOf(await items);
			const added = await tried.add(found);
			this.#draw();
			this.#soon();
			announce(`${count(added, "image")} added.`);
			const left = found.length - added;
			if (left) replace(this.dropTrouble, this.#tooMany(left));
			else if (!added) replace(this.dropTrouble, noImagesBox());
		});
	}

	/** @param {number} left number of images that were left out */
	#tooMany(left) {
		const words = `Try shows ${MAX_IMAGES} photos, so ${count(left, "photo")} ${left === 1 ? "was" : "were"} left out. `;
		const sort = h("a", { href: `#/sort/${encodeURIComponent(this.models.id())}` }, "Sort");
		return h("div", { class: "problem", role: "alert" }, h("p", {}, words, sort, " takes thousands."));
	}

	/** @param {TriedImage} image */
	#remove(image) {
		tried.keep(tried.images.filter((other) => other !== image));
		this.#draw();
		if (!tried.images.length) this.zone.querySelector("button")?.focus();
		this.#soon();
	}

	/** @param {ChoosableModel} model @param {string} jobId */
	async #showHeldOut({ trained_classes: trained }, jobId) {
		const isOpen = () => this.models.current()?.job_id === jobId;
		if (!(await tried.loadHeldOut(jobId, trained, isOpen, this.signal))) return;
		this.#draw();
		this.#soon();
	}

	async #openLive() {
		const request = () => (tried.names.length ? this.#request(this.models.id()) : null);
		const snap = (item) => this.#take(item);
		await openCamera(this.camera, (...opened) => liveAnswers({ request, snap }, ...opened), this.signal);
		this.#draw(); // with the slider
	}
}
