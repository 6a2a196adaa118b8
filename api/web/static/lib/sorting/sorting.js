// The images that are being sorted, and the person's labels. They outlive the view.

import { confirmed } from "../dom.js";
import { count } from "../words.js";
import { NONE } from "./groups.js";
import { note, recallNoted } from "./remembered.js";

export const MAX_IMAGES = 3000;
const DEFAULT_THRESHOLD = 0.6;

/** Answer for images; without `calibration` it is one for a part of them.
 *
 *  @typedef {{ results: (Pick<Schemas["ImageResult"], "predictions"> & Partial<Schemas["ImageResult"]>)[],
 *              calibration?: Calibration | null, reason?: string | null }} PartialAnswer */

export class Sorting extends EventTarget {
	/** @type {SortedImage[]} */
	images = [];
	/** Class names, as in the field. @type {ClassName[]} */
	names = [];
	threshold = DEFAULT_THRESHOLD;
	/** Id of the model that has answered. @type {string | null} */
	model = null;
	/** @type {string[]} */
	trained = [];
	/** Request of the last answer for all images together, as JSON. */
	together = "";
	/** Whether the groups are asked for as soon as all images have features. */
	grouping = false;
	/** Last answer of the service, without its results. @type {{ calibration: Calibration | null, reason: string } | null} */
	answer = null;
	/** The training with the corrections.
	 *
	 *  @type {{ id: string, before: { id: string | null, metrics?: Metrics | null, version?: number | null },
	 *           labels: [SortedImage, Label][], classes: Map<SortedImage, string | undefined>, unsure: number,
	 *           checked: Map<SortedImage, boolean>, adopted: string | null, words: string, ended: boolean } | null} */
	training = null;
	/** @type {{ before: [SortedImage, Label, number][], added: string[] }[]} */
	#undo = [];

	/** Whether this browser could not remember an image. */
	isForgetful = false;

	#classNames() {
		return this.names.map(({ name }) => name);
	}

	/** @param {SortedImage[]} images */
	async #note(images) {
		if (await note(images, this.#classNames())) return;
		this.isForgetful = true;
		this.changed();
	}

	changed() {
		this.dispatchEvent(new Event("change"));
	}

	/** Add images. Returns the number of those that are new. @param {(DroppedFile & { name: string })[]} images */
	add(images) {
		/** @param {{ path: string[], file: File }} image */
		const key = ({ path, file }) => `${path.join("/")} ${file.size} ${file.lastModified}`;
		const known = new Set(this.images.map(key));
		const fresh = images.filter((image) => !known.has(key(image))).slice(0, MAX_IMAGES - this.images.length);
		/** @type {Omit<SortedImage, "file" | "path" | "name">} */
		const empty = {
			predictions: null,
			rejected: false,
			likeness: 0,
			features: null,
			error: "",
			label: null,
			skipped: false,
			held: 0,
			saved: null,
		};
		const added = fresh.map(({ file, path, name }) => ({ file, path, name, ...empty }));
		this.images.push(...added);
		recallNoted(added, this.#classNames(), this.images.length).then(() => this.changed());
		this.changed();
		return fresh.length;
	}

	clear() {
		for (const { url } of this.images) if (url) URL.revokeObjectURL(url);
		Object.assign(this, {
			images: [],
			together: "",
			grouping: false,
			answer: null,
			training: null,
			isForgetful: false,
		});
		this.#undo = [];
		this.changed();
	}

	/** Begin anew with a pile, which the pre-trained model groups. @param {(DroppedFile & { name: string })[]} images */
	begin(images) {
		this.clear();
		this.names.length = 0;
		this.useModel("stock", []);
		this.add(images);
		this.grouping = images.length > 0;
	}

	/** Begin with the images of another view, once the person agrees to lose labels, and to leave images beyond the limit
	 *  there. Returns the images that were taken.
	 *
	 *  @template {PageImage} Image @param {Image[]} images @returns {Promise<Image[]>} */
	async takePile(images) {
		const lost = this.losable.length;
		if (
			lost &&
			!(await confirmed(
				`Sort has other images. Remove them? ${count(lost, "label")} ${lost === 1 ? "isn't" : "aren't"} saved.`,
				"Remove them",
			))
		)
			return [];
		const left = images.length - MAX_IMAGES;
		if (
			left > 0 &&
			!(await confirmed(
				`The page sorts up to ${count(MAX_IMAGES, "image")} at once. The other ${left} stay here. For more, use the command clipcite sort.`,
				`Take ${count(MAX_IMAGES, "image")}`,
			))
		)
			return [];
		const taken = images.slice(0, MAX_IMAGES);
		this.begin(taken.map(({ path = [], file, name }) => ({ path, file, name })));
		return taken;
	}

	/** Use another model. The answers of the last one stay until its own are there.
	 *
	 *  @param {string} id @param {string[]} trained */
	useModel(id, trained) {
		const spelled = new Map(trained.map((name) => [name.toLowerCase(), name]));
		for (const image of this.images) {
			image.features = null;
			if (typeof image.label === "string") image.label = spelled.get(image.label.toLowerCase()) ?? image.label;
		}
		Object.assign(this, { model: id, trained, together: "", answer: null });
		this.changed();
	}

	/** Take the answer for these images. `withClasses` is false if only their features were asked for.
	 *
	 *  @param {SortedImage[]} images @param {PartialAnswer} answer @param {boolean} withClasses */
	take(images, { results, calibration, reason = "" }, withClasses) {
		images.forEach((image, i) => {
			const { predictions, rejected, in_distribution_score: likeness, features, error } = results[i];
			image.predictions = withClasses ? predictions : null;
			image.rejected = Boolean(rejected);
			image.likeness = likeness ?? 0;
			image.features = features ?? image.features; // an answer for all together has none
			image.error = error?.detail ?? "";
		});
		if (calibration) this.answer = { calibration, reason: reason ?? "" };
		this.changed();
	}

	/** Images that are still to be uploaded. Those with features are classified again without an upload. */
	get open() {
		return this.images.filter(({ error, features }) => !error && !features);
	}

	get labelled() {
		return this.images.filter(({ label }) => label);
	}

	/** Images whose label counts in the sort. Labels of a check don't. */
	get taught() {
		return this.labelled.filter(({ held }) => !held);
	}

	/** Classes of these labels. */
	get labelledClasses() {
		return [...new Set(this.taught.map(({ label }) => label))].filter((label) => typeof label === "string");
	}

	/** Images that were drawn to check the sort. */
	get held() {
		return this.images.filter(({ held }) => held);
	}

	/** Note that the person doesn't know these images. @param {SortedImage[]} images */
	skip(images) {
		for (const image of images) image.skipped = true;
		this.#note(images);
		this.changed();
	}

	/** Let the labels of the check teach, too. */
	release() {
		const { held } = this;
		for (const image of held) image.held = 0;
		for (const { before } of this.#undo) for (const entry of before) entry[2] = 0;
		this.#note(held);
		this.changed();
	}

	/** Say whether the model was trained with the label of the image. @param {SortedImage} image */
	isLearned({ label, saved }) {
		return saved?.model === this.model && Boolean(saved.learned) && saved.class_name === label;
	}

	/** Labelled images that can still teach the model. */
	get lessons() {
		return this.taught.filter((image) => image.label !== NONE && !this.isLearned(image));
	}

	/** Return the labels of a request for these images, by position: a class name, or null for none of them. A label that
	 *  the model was trained with counts already.
	 *
	 *  @param {SortedImage[]} images */
	labelsOf(images) {
		const names = new Set(this.names.map(({ name }) => name.toLowerCase()));
		const sent = [...images.entries()].filter(
			([, image]) =>
				!image.held &&
				(image.label === NONE ||
					(typeof image.label === "string" && !this.isLearned(image) && names.has(image.label.toLowerCase()))),
		);
		return Object.fromEntries(sent.map(([i, { label }]) => [i, label === NONE ? null : label]));
	}

	/** Whether the answer says which images are something else: once the request has training images. The pre-trained
	 *  model has only the labels, so there the person says first that there is something else. */
	get rejects() {
		const hasTrained = this.names.some(({ name }) => this.trained.includes(name));
		const hasLabelled = this.names.length > 0 && this.labelledClasses.length > 0;
		return hasTrained || (hasLabelled && this.taught.some(({ label }) => label === NONE));
	}

	/** Images whose label, or whose missing label, the service doesn't know yet. It keeps no "none of these", and no label
	 *  of a check. */
	get unsaved() {
		return this.images.filter(
			(image) => !image.held && (image.label === NONE ? null : image.label) !== this.savedLabel(image),
		);
	}

	/** Images whose label is lost with the page. */
	get losable() {
		return [...new Set([...this.unsaved, ...this.taught.filter(({ label }) => label === NONE)])];
	}

	/** @param {SortedImage} image */
	savedLabel({ saved }) {
		return saved && saved.model === this.model ? saved.class_name : null;
	}

	/** Return the class as it is spelled here: upper and lower case are equal. A class that is new here joins the names.
	 *
	 *  @param {string} name */
	spelled(name) {
		const known = this.names.find((other) => other.name.toLowerCase() === name.toLowerCase());
		if (!known) this.names.push({ name, prompts: [] });
		return known?.name ?? name;
	}

	/** Set labels [[image, name]]; null takes one back. Those of a check come with the size of the pile (`held`), and are
	 *  null for images that the person doesn't know.
	 *
	 *  @param {[SortedImage, Label][]} pairs */
	label(pairs, held = 0) {
		const first = this.names.length;
		/** @type {[SortedImage, Label, number][]} */
		const before = pairs.map(([image]) => [image, image.label, image.held]);
		for (const [image, name] of pairs) {
			image.label = typeof name === "string" ? this.spelled(name) : name;
			image.held = held || (name ? image.held : 0);
		}
		this.#undo.push({ before, added: this.names.slice(first).map(({ name }) => name) });
		this.#note(pairs.map(([image]) => image));
		this.changed();
	}

	get canUndo() {
		return this.#undo.length > 0;
	}

	/** Undo the last call of `label`, and return its images. A class that only it had made goes. */
	undo() {
		const { before, added } = this.#undo.pop() ?? { before: [], added: [] };
		for (const [image, label, held] of before) Object.assign(image, { label, held });
		this.#note(before.map(([image]) => image));
		const used = new Set(this.images.map(({ label }) => label));
		this.names.splice(0, Infinity, ...this.names.filter(({ name }) => !added.includes(name) || used.has(name)));
		this.changed();
		return before.map(([image]) => image);
	}
}

export const sorting = new Sorting();

addEventListener("beforeunload", (event) => {
	if (sorting.losable.length) event.preventDefault(); // the browser asks first
});
