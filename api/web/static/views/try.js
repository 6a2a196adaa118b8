// Try view: classifies images among any class names, again after every change.

import { hasCamera, openCamera } from "../components/camera.js";
import { classifyPrograms, codeFor } from "../components/code.js";
import { acceptDrops, dropZone, onPhone } from "../components/dropzone.js";
import { trainAgainButton } from "../components/train_again.js";
import { beforeButton } from "../components/try/before_button.js";
import { chipField } from "../components/try/chips.js";
import { liveAnswers } from "../components/try/live.js";
import { modelSelect, STOCK } from "../components/try/model_select.js";
import { hasAddress, showOnPhone } from "../components/try/phone.js";
import { predictionCard } from "../components/try/predictions.js";
import { strengthSlider } from "../components/try/strength.js";
import { askSomethingElse, classify } from "../lib/classify.js";
import { announce, arrange, button, debounce, h, replace } from "../lib/dom.js";
import { imagesOf } from "../lib/files/dropped_files.js";
import { noImagesBox, showProblem } from "../lib/problem.js";
import { forget, inspect } from "../lib/training/image_check.js";
import { imageBlob, listImages, spread } from "../lib/training/job_images.js";
import { count } from "../lib/words.js";

const MAX_IMAGES = 16; // each change classifies all images again
const HELD_OUT_IMAGES = 6;
const SIDE = 512; // pixels of a test image from the service: more than the input size of any model

/** @typedef {PageImage & { truth?: string | null, heldOut?: string, sendable?: Promise<Blob> }} TriedImage */

/** Survives while other views are shown. `shownModel` is the model whose classes are among the names, and `stock` the last
 *  results of the pre-trained model.
 *
 *  @type {{ images: TriedImage[], names: ClassName[], model: string | null, shownModel: ChoosableModel | null,
 *           alpha: number | null, stock: { text: string, images: TriedImage[], results: Schemas["ImageResult"][] } | null }} */
const kept = { images: [], names: [], model: null, shownModel: null, alpha: null, stock: null };

/** @param {{ parameter?: string, signal: AbortSignal }} options */
export function tryView({ parameter, signal }) {
	let pending = new AbortController();

	const failed = (error) => showProblem(trouble, error);
	const models = modelSelect({ choose, failed, signal });
	const current = models.current;
	const slider = strengthSlider((alpha) => {
		kept.alpha = alpha;
		classifySoon();
	});
	const chips = chipField(kept.names, () => soon());
	const results = h("ul", { class: "answers" });
	const trouble = h("div", {});
	const dropTrouble = h("div", {}); // of added images: answers to requests leave it
	const timing = h("p", { class: "soft" });
	const hint = h("p", { class: "soft" });
	const rule = h(
		"p",
		{ class: "soft rule" },
		h("span", { class: "tag open" }, "unsure"),
		": the best class has less than 50%, or leads the next by less than 15 points. Probabilities compare these classes only, so an image of something else gets one of them too.",
	);
	const early = h(
		"p",
		{ class: "soft", hidden: true },
		"Instant preview from your images, before training. The trained model is usually better.",
	);
	const tally = h("p", { class: "tally", role: "status" });
	const hold = beforeButton((on) => {
		for (const card of cards.values()) card.showBefore(on);
	});
	const teach = trainAgainButton({
		model: models.id,
		images: () => taught().map(({ file, name, truth }) => ({ file, name, className: truth ?? "" })),
		started: () => keep(kept.images.filter((image) => !taught().includes(image))),
		failed,
		signal,
	});
	const zone = dropZone({
		title: onPhone ? "Add images" : "Drop images anywhere here",
		hint: "Best: images that weren't used for training.",
		small: true,
		add: take,
		drops: false,
	});
	const camera = h("div", {});
	const live = hasCamera && button("Live camera", openLive);
	const phone = hasAddress && button("Use on phone", () => showOnPhone(models.id(), signal).catch(failed));

	async function openLive() {
		const asked = () => (kept.names.length ? request(models.id()) : null);
		await openCamera(
			camera,
			(...opened) => liveAnswers({ request: asked, snap: (item) => take(item) }, ...opened),
			signal,
		);
		draw(); // with the slider
	}

	/** @param {Promise<DroppedFile[]>} items */
	async function take(items) {
		replace(dropTrouble);
		try {
			const found = imagesOf(await items);
			const own = kept.images.filter((image) => !image.heldOut);
			const added = found.slice(0, MAX_IMAGES - own.length).map(({ file, name }) => ({ file, name, problem: null }));
			if (added.length) keep([...own, ...added]);
			await Promise.all(added.map(inspect));
			draw();
			soon();
			announce(`${count(added.length, "image")} added.`);
			const left = found.length - added.length;
			if (left) replace(dropTrouble, tooMany(left));
			else if (!added.length) replace(dropTrouble, noImagesBox());
		} catch (error) {
			showProblem(dropTrouble, error);
		}
	}
	/** @param {number} left number of images that were left out */
	function tooMany(left) {
		const words = `Try shows ${MAX_IMAGES} photos, so ${count(left, "photo")} ${left === 1 ? "was" : "were"} left out. `;
		const sort = h("a", { href: `#/sort/${encodeURIComponent(models.id())}` }, "Sort");
		return h("div", { class: "problem", role: "alert" }, h("p", {}, words, sort, " takes thousands."));
	}
	/** Keep these images, and forget the others. @param {TriedImage[]} images */
	function keep(images) {
		for (const image of kept.images) if (!images.includes(image)) forget(image);
		kept.images = images;
	}
	/** Show test images of the model's job, unless the user has added images. @param {ChoosableModel} model */
	async function showHeldOut({ job_id: jobId, trained_classes: trained }) {
		if (!jobId) return;
		const isOpen = () =>
			current()?.job_id === jobId && kept.images.every((image) => image.heldOut && image.heldOut !== jobId);
		if (!isOpen()) return;
		const tests = (await listImages(jobId, signal)).filter(
			({ split, class_name: name }) => split === "test" && trained.includes(name),
		);
		const loaded = await Promise.all(
			spread(tests, HELD_OUT_IMAGES).map(async ({ position, class_name: truth, file_name: name }) => {
				const blob = await imageBlob(jobId, position, SIDE, signal);
				const file = new File([blob], name ?? "", { type: "image/jpeg" });
				return { file, name: file.name, truth, heldOut: jobId, problem: null };
			}),
		);
		if (!loaded.length || !isOpen()) return;
		keep(loaded.map((image) => ({ ...image, url: URL.createObjectURL(image.file) })));
		draw();
		soon();
	}

	/** @param {TriedImage} image */
	function remove(image) {
		keep(kept.images.filter((other) => other !== image));
		draw();
		if (!kept.images.length) zone.querySelector("button")?.focus();
		soon();
	}

	/** @type {Map<TriedImage, ReturnType<typeof predictionCard>>} */
	const cards = new Map();
	function draw() {
		for (const image of cards.keys()) if (!kept.images.includes(image)) cards.delete(image);
		for (const image of kept.images) {
			if (cards.has(image)) continue;
			const names = () => kept.names.map((entry) => entry.name);
			cards.set(image, predictionCard(image, { remove: () => remove(image), judged: updateTally, names }));
		}
		for (const card of cards.values()) card.refresh();
		arrange(
			results,
			[...cards.values()].map((card) => card.element),
		);
		const names = kept.names.length;
		hint.textContent = !kept.images.length
			? "Add images. Their predictions appear here."
			: !names
				? "Type the class names to choose from."
				: names === 1
					? "A single class always wins. Add classes that could be confused with this one."
					: "";
		zone.classList.toggle("slim", kept.images.length > 0);
		const model = current();
		slider.element.hidden = !model || model.preview || !(kept.images.length || camera.firstChild);
		rule.hidden = !kept.images.length;
		hold.hidden = !model || !kept.images.length;
		updateTally();
	}
	/** Count the right predictions, now and before. */
	function updateTally() {
		const known = [...cards.values()].map((card) => card.outcome()).filter((outcome) => outcome !== null);
		/** @param {"now" | "before"} when */
		const right = (when) => known.filter((outcome) => outcome[when]).length;
		const compared = known.every((outcome) => outcome.before !== null);
		tally.textContent = known.length
			? `Right: ${right("now")} of ${known.length}${compared && current() ? ` now, ${right("before")} before` : ""}`
			: "";
		teach.refresh();
	}
	/** Return the user's images with a known class, if the model can learn them. Test images must not train. */
	function taught() {
		const model = current();
		return model?.job_id && !model.preview ? kept.images.filter((image) => image.truth && !image.heldOut) : [];
	}

	/** @param {string} id */
	function choose(id) {
		kept.model = id;
		const model = current();
		early.hidden = !model?.preview;
		if (model) {
			if (kept.shownModel?.id !== id) {
				// Replace the classes of the previous model, and keep typed class names.
				const typed = kept.names.filter(
					(entry) =>
						!kept.shownModel?.trained_classes.includes(entry.name) && !model.trained_classes.includes(entry.name),
				);
				chips.set([...model.trained_classes.map((name) => ({ name, prompts: [] })), ...typed]);
				kept.shownModel = model;
				kept.alpha = null;
			}
			slider.set(kept.alpha ?? model.alpha ?? 0, model.alpha);
		}
		chips.kinds(new Set(model?.trained_classes ?? []));
		draw();
		soon();
		if (model?.job_id) showHeldOut(model).catch(() => {}); // optional: the job may have been deleted
	}

	/** @param {string} model */
	function request(model) {
		/** @type {Options} */
		const options = { model, class_names: kept.names.map((entry) => (entry.prompts.length ? entry : entry.name)) };
		if (model === models.id() && !slider.element.hidden) options.alpha = slider.value();
		return options;
	}

	/** Classify with the pre-trained model. Its results don't depend on the strength, so one set of them is kept.
	 *
	 *  @param {TriedImage[]} images @param {ChoosableModel} model @param {AbortSignal} abort */
	async function classifyStock(images, model, abort) {
		const options = request(`${STOCK}:${model.backbone}`);
		const text = JSON.stringify(options);
		const last = kept.stock;
		if (
			last?.text === text &&
			last.images.length === images.length &&
			images.every((image, i) => image === last.images[i])
		)
			return last.results;
		const { results } = await classify(images, options, abort);
		kept.stock = { text, images, results };
		return results;
	}

	async function classifyAll() {
		pending.abort();
		pending = new AbortController();
		const both = AbortSignal.any([pending.signal, signal]);
		const images = kept.images.filter((image) => image.problem?.level !== "bad");
		if (!images.length || !kept.names.length) {
			results.removeAttribute("aria-busy");
			timing.textContent = "";
			for (const card of cards.values()) card.clear();
			return updateTally();
		}
		const model = current();
		const started = performance.now();
		results.setAttribute("aria-busy", "true");
		try {
			const hasTrained = kept.names.some(({ name }) => model?.trained_classes.includes(name));
			const [now, before] = await Promise.all([
				askSomethingElse((more) => classify(images, { ...request(models.id()), ...more }, both), hasTrained),
				model ? classifyStock(images, model, both) : null,
			]);
			for (const [i, image] of images.entries()) cards.get(image)?.show(now.results[i], before?.[i], now);
			updateTally();
			chips.kinds(new Set(now.class_names.filter((entry) => entry.kind === "trained").map((entry) => entry.name)));
			timing.textContent = `${count(images.length, "image")} in ${((performance.now() - started) / 1000).toFixed(2)} s.${now.calibration?.calibrated ? " The percentages are adjusted to how often the model is right." : ""}`;
			replace(trouble);
		} catch (error) {
			failed(error);
		} finally {
			if (!both.aborted) results.removeAttribute("aria-busy");
		}
	}
	const soon = debounce(150, () => {
		draw();
		classifyAll();
	});
	const classifySoon = debounce(40, classifyAll);
	signal.addEventListener("abort", soon.cancel);
	signal.addEventListener("abort", classifySoon.cancel);

	models.load(parameter ?? kept.model).catch(failed);

	const programs = () => classifyPrograms(request(models.id()));
	const code = codeFor({
		curl: () => programs().curl,
		python: () => programs().python,
		javascript: () => programs().javascript,
	});

	slider.element.hidden = hold.hidden = true;
	draw();
	const element = h(
		"section",
		{ class: "try" },
		h(
			"div",
			{ class: "two" },
			h(
				"div",
				{ class: "side" },
				h("h1", {}, "Try it"),
				h(
					"div",
					{ class: "card panel" },
					onPhone && [zone, live],
					models.element,
					early,
					chips.element,
					!onPhone && [zone, live, phone],
				),
			),
			h(
				"div",
				{},
				camera,
				h("div", { class: "row toolbar" }, tally, hold),
				hint,
				dropTrouble,
				trouble,
				results,
				h("div", { class: "dock" }, teach.element, slider.element),
				timing,
				rule,
				code,
			),
		),
	);
	acceptDrops(element, take);
	return element;
}
