// Sort view: many images in groups by class, the unsure ones first. Labels count in the groups at once, and train a model.

import { codeFor, literal, python } from "../components/code.js";
import { acceptDrops, dropZone, onPhone } from "../components/dropzone.js";
import { askClass } from "../components/sort/class_dialog.js";
import { imageGroups } from "../components/sort/groups.js";
import { selectionBar } from "../components/sort/selection_bar.js";
import { CHECKED, ROUND, summaryCard } from "../components/sort/summary_card.js";
import { labelledWords, trainingCard } from "../components/sort/training_card.js";
import { groupWalk, walk } from "../components/sort/walks.js";
import { chipField } from "../components/try/chips.js";
import { modelSelect } from "../components/try/model_select.js";
import { announce, confirmed, h, newId, oncePerFrame, replace } from "../lib/dom.js";
import { imagesOf } from "../lib/files/dropped_files.js";
import { noImagesBox, problemBox, showProblem } from "../lib/problem.js";
import { drawn } from "../lib/sorting/check.js";
import { recall } from "../lib/sorting/corrections.js";
import { classOf, classOfKey, isGuess, wordsFor } from "../lib/sorting/groups.js";
import { SortRequests } from "../lib/sorting/requests.js";
import { MAX_IMAGES, sorting } from "../lib/sorting/sorting.js";
import { count, percent } from "../lib/words.js";

const style = h("link", { rel: "stylesheet", href: "/page/components/sort/style.css" });
await new Promise((done) => {
	style.onload = style.onerror = done;
	document.head.append(style);
});

const MAX_GROUPS = 500;
const MAX_SUGGESTED = 1000;
const MIN_ASKED = 4; // images of a group without an answer; fewer are not worth a question
const FORGETFUL =
	"This browser can't remember your answers. If you reload this page, skipped photos and the labels of a check are lost.";
const STEPS = [
	onPhone
		? ["Add", "Choose photos. They are sorted by class, the unsure ones first."]
		: ["Drop", "Add a folder of images. They are sorted by class, the unsure ones first."],
	[
		"Correct",
		onPhone
			? "Tap images and move them to their class."
			: "Select images and drag them onto their class, or press its digit.",
	],
	[
		"Make a model",
		"Your corrections change the groups at once, and you can download the groups without a model. A model also sorts the next photos.",
	],
];

/** @param {{ parameter?: string, signal: AbortSignal }} options */
export function sortView({ parameter, signal }) {
	/** @type {Set<SortedImage>} */
	const picked = new Set();
	const trouble = h("div", {});
	const recallTrouble = h("div", {}); // of earlier labels: answers to other requests leave it
	const failed = (error) => showProblem(trouble, error);
	const models = modelSelect({ choose, failed, signal });
	const names = () => sorting.names.map(({ name }) => name);
	const ownModel = () => {
		const model = models.current();
		return model?.job_id && !model.preview ? model : null;
	};
	const requests = new SortRequests(
		sorting,
		{ load, sends: () => replace(trouble), changed: () => draw(), failed, classified },
		signal,
	);
	const chips = chipField(sorting.names, requests.renamed);
	const zone = dropZone({
		title: onPhone ? "Add photos" : "Drop a folder here",
		hint: "Images are classified, not stored. Only those that you train with, or save as corrections, are kept.",
		folders: true,
		small: true,
		add: take,
		drops: false,
	});

	const limitId = newId("limit");
	const limitText = h("span", { class: "value", "aria-hidden": "true" });
	const limit = h("input", {
		id: limitId,
		type: "range",
		min: "0",
		max: "1",
		step: "0.01",
		oninput: () => {
			sorting.threshold = Number(limit.value);
			sorting.changed();
		},
	});
	limit.value = String(sorting.threshold);
	const slider = h("div", { class: "field limit" }, h("label", { for: limitId }, "Unsure below ", limitText), limit);

	const summary = summaryCard(sorting, {
		requests,
		askMe,
		groupThem,
		check,
		release,
		removeAll,
		failed,
		signal,
	});
	const hint = h("p", { class: "soft" });
	const forgetful = h("p", { class: "soft", role: "status" });
	const steps = h(
		"ol",
		{ class: "steps" },
		STEPS.map(([name, text]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, text))),
	);

	const chosen = () => [...picked];
	const training = trainingCard(sorting, { model: ownModel, use: (id) => models.load(id), signal });
	const groups = imageGroups(sorting, picked, {
		changed: () => selection.refresh(),
		move,
		right: approve,
		press,
		look,
	});
	const selection = selectionBar(sorting, picked, {
		move: (name) => move(chosen(), name),
		ask: () => askFor(chosen()),
		right: () => approve(chosen()),
		look: () => look(chosen()),
		back: () => takeBack(chosen()),
		undo,
		clear: () => groups.select([]),
		left: () => groups.focus(),
	});

	/** Set labels [[image, name]]. A class that is new here joins the names. `held` is the size of the pile of a check.
	 *
	 *  @param {[SortedImage, Label][]} pairs @param {string} done @param {number} [held] */
	function label(pairs, done, held) {
		if (!pairs.length) return;
		const before = sorting.names.length;
		groups.leave(
			pairs.map(([image]) => image),
			() => sorting.label(pairs, held),
		);
		announce(`${count(pairs.length, "image")} ${done}.`);
		relabelled(before);
	}
	/** Let the labels count. `before` is the number of class names before they changed. @param {number} before */
	function relabelled(before) {
		if (sorting.names.length !== before) chips.set([...sorting.names]);
		requests.classifySoon();
	}
	/** @param {SortedImage[]} images @param {Label} name */
	function move(images, name) {
		label(
			images.map((image) => [image, name]),
			`moved to ${wordsFor(name)}`,
		);
	}
	/** @param {SortedImage[]} images */
	function takeBack(images) {
		label(
			images.filter((image) => image.label).map((image) => [image, null]),
			"taken back",
		);
	}
	/** @param {SortedImage[]} images */
	function approve(images) {
		label(
			images.filter(isGuess).map((image) => [image, classOf(image)]),
			"confirmed",
		);
	}
	/** @param {SortedImage[]} images */
	async function askFor(images) {
		const name = await askClass(`Move ${count(images.length, "image")} to`, names(), signal);
		if (name) move(images, name);
	}
	function undo() {
		const before = sorting.names.length;
		const images = sorting.undo();
		groups.refresh();
		groups.select(images);
		announce(`Undone: ${count(images.length, "image")}.`);
		relabelled(before);
	}
	/** @param {SortedImage[]} images @param {(image: SortedImage) => void} [skip] */
	function look(images, skip) {
		return walk(images, names, (image, name) => move([image], name), { pass: skip, signal });
	}
	/** Use a key that was pressed on an image. @param {KeyboardEvent} event @param {SortedImage[]} images */
	function press(event, images) {
		const isCommand = event.ctrlKey || event.metaKey;
		const name = classOfKey(names(), event.key);
		if (isCommand && event.key === "z") undo();
		else if (isCommand || event.altKey || event.repeat) return false;
		else if (name) move(images, name);
		else if (event.key === "/") askFor(images);
		else if (event.key === "Enter") approve(images);
		else if (event.key === "Delete" || event.key === "Backspace") takeBack(images);
		else if (event.key.toLowerCase() === "l") look(images);
		else return false;
		return true;
	}
	/** Ask which images or groups to label next, and let the person label them: `show` gets the answer and its images.
	 *
	 *  @param {{ suggest?: number, groups?: number }} extra
	 *  @param {(answer: Schemas["CollectionClassification"], known: SortedImage[]) => Promise<void> | void} show */
	function question(extra, show) {
		const before = sorting.labelled.length;
		return requests.choose(extra, async (answer, known) => {
			await show(answer, known);
			announce(`${count(Math.max(0, sorting.labelled.length - before), "image")} labelled. ${summary.left()}`);
			summary.focus();
		});
	}
	/** @param {SortedImage} image */
	const isOpen = ({ label, skipped }) => !label && !skipped;
	function askMe() {
		const passed = sorting.images.filter((image) => !isOpen(image)).length; // some of them may be suggested
		return question({ suggest: Math.min(MAX_SUGGESTED, ROUND + passed) }, ({ suggested }, known) =>
			look(
				suggested
					.map((i) => known[i])
					.filter(isOpen)
					.slice(0, ROUND),
				(image) => sorting.skip([image]),
			),
		);
	}
	function groupThem() {
		sorting.grouping = false;
		return question({ groups: MAX_GROUPS }, async ({ groups: found }, known) => {
			const open = found
				.map((group) => group.map((i) => known[i]).filter(isOpen))
				.filter((group) => group.length >= MIN_ASKED);
			if (!open.length)
				return replace(
					trouble,
					problemBox(
						"There are no groups to ask about: the photos are too few, or most have an answer. Select the others, and move them to a class.",
					),
				);
			await groupWalk(
				open,
				names,
				(pairs) => label(pairs, "labelled"),
				(images) => sorting.skip(images),
				() => labelledWords(sorting),
				signal,
			);
		});
	}

	/** Ask for the classes of some images drawn at random. Their labels say how good the sort is, and don't change it. */
	async function check() {
		const pile = summary.pile();
		/** @type {Map<SortedImage, Label>} */
		const truths = new Map();
		/** @type {Set<SortedImage>} */
		const unknown = new Set();
		/** @param {SortedImage} image @param {Label} name */
		const answer = (image, name) => truths.set(image, name) && unknown.delete(image);
		await walk(drawn(pile, CHECKED), names, answer, {
			pass: (image) => truths.has(image) || unknown.add(image),
			truths,
			signal,
		});
		if (!truths.size) return;
		sorting.skip([...unknown]);
		for (const image of unknown) truths.set(image, null);
		label([...truths], "checked", pile.length);
		draw();
		announce(summary.left());
		summary.focus();
	}
	function release() {
		sorting.release();
		requests.classifySoon();
	}

	/** @param {Promise<DroppedFile[]>} items */
	async function take(items) {
		replace(trouble);
		try {
			const images = imagesOf(await items);
			const added = sorting.add(images);
			announce(`${count(added, "image")} added.`);
			if (!images.length) replace(trouble, noImagesBox());
			else if (images.length > added && sorting.images.length >= MAX_IMAGES)
				replace(
					trouble,
					problemBox(
						`The page sorts up to ${count(MAX_IMAGES, "image")} at once. For more, use the command clipcite sort.`,
					),
				);
			if (added) remember();
			requests.classify();
			summary.element.scrollIntoView({ block: onPhone ? "start" : "nearest" }); // on a phone it is below the fields
		} catch (error) {
			failed(error);
		}
	}
	async function removeAll() {
		const unsaved = sorting.losable.length;
		if (
			unsaved &&
			!(await confirmed(
				`Remove all images from this page? ${count(unsaved, "correction")} ${unsaved === 1 ? "isn't" : "aren't"} saved.`,
				"Remove all",
				signal,
			))
		)
			return;
		requests.stopClassifying();
		requests.stopChoosing();
		sorting.clear();
		zone.querySelector("button")?.focus();
	}
	/** Find the labels that were kept with the model, or have trained it. */
	async function remember() {
		const job = ownModel()?.job_id;
		if (!job || !sorting.images.length) return;
		replace(recallTrouble);
		try {
			const before = sorting.names.length;
			const found = await recall(sorting, job, signal);
			if (!found) return;
			announce(`${count(found, "earlier label")} found.`);
			relabelled(before);
		} catch (error) {
			showProblem(recallTrouble, error);
		}
	}

	let isLoading = false;
	/** Load the models and choose one, which classifies the images. */
	async function load() {
		if (isLoading) return;
		isLoading = true;
		replace(trouble);
		await models.load(parameter ?? sorting.model ?? undefined).catch(failed);
		isLoading = false;
	}
	/** @param {string} id */
	function choose(id) {
		const model = models.current();
		const trained = model?.trained_classes ?? [];
		if (sorting.model !== id) {
			// Replace the classes of the previous model, and keep typed class names.
			const given = new Set([...sorting.trained, ...trained].map((name) => name.toLowerCase()));
			const typed = sorting.names.filter(({ name }) => !given.has(name.toLowerCase()));
			chips.set([...trained.map((name) => ({ name, prompts: [] })), ...typed]);
			sorting.useModel(id, trained);
			requests.stopChoosing();
			remember();
		}
		chips.kinds(new Set(trained));
		draw();
		requests.classify();
	}

	function classified() {
		announce(summary.words());
		if (sorting.grouping && !sorting.open.length) groupThem();
	}

	function draw() {
		const total = sorting.images.length;
		zone.classList.toggle("slim", total > 0);
		steps.hidden = total > 0;
		hint.textContent =
			total && !sorting.names.length
				? "Type the class names to sort by. Or group the photos that look alike, and name the groups."
				: "";
		hint.hidden = !hint.textContent;
		forgetful.textContent = sorting.isForgetful ? FORGETFUL : "";
		forgetful.hidden = !sorting.isForgetful;
		slider.hidden = !total;
		limitText.textContent = percent(sorting.threshold);
		limit.setAttribute("aria-valuetext", percent(sorting.threshold));
		summary.refresh();
		groups.refresh();
		selection.refresh();
		training.refresh();
		groups.element.hidden = !total || !sorting.names.length;
	}
	const code = codeFor({
		what: "sort images",
		python: () =>
			python([
				`names = ${literal(names())}`,
				`answer = client.sort(["a.jpg", "b.jpg"], names, model=${literal(sorting.model)})`,
				"for result in answer.results:",
				"    print(result.file, result.best.class_name)",
			]),
	});
	const drawSoon = oncePerFrame(() => signal.aborted || draw());
	sorting.addEventListener("change", drawSoon, { signal });

	load();
	draw();
	const element = h(
		"section",
		{ class: "sort" },
		h(
			"div",
			{ class: "two" },
			h(
				"div",
				{ class: "side" },
				h("h1", {}, "Sort"),
				h("div", { class: "card panel" }, models.element, chips.element, slider, zone),
			),
			h(
				"div",
				{ class: "sorted" },
				steps,
				hint,
				forgetful,
				recallTrouble,
				trouble,
				summary.element,
				training.element,
				groups.element,
				selection.element,
				code,
			),
		),
	);
	acceptDrops(element, take);
	return element;
}
