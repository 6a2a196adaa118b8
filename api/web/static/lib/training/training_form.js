// Images of the Train view by class, and the form for POST /adapt.

import { oncePerFrame } from "../dom.js";
import { placesOf } from "../files/dropped_files.js";
import { count } from "../words.js";
import { forget, inspect, markDuplicates } from "./image_check.js";

const NAMELESS = "";
const MIN_PILE = 12; // images; Sort makes no groups of fewer
let lastImageId = 0;
const MAX_NAME_LENGTH = 150; // the service shortens file names above 200 characters in its responses

/** @typedef {PageImage & { id: number, folder: string | null, split: "train" | "test" }} Shot */
/** Class; `folders` are the names of its class folders, which a new name doesn't change.
 *
 *  @typedef {{ name: string, folders: Set<string>, prompts: string[], images: Shot[] }} ShotClass */

/** Classes with their images. Dispatches "change" after every change. */
export class Shots extends EventTarget {
	/** @type {ShotClass[]} */
	classes = [];
	/** Last check by the service, and the fingerprint of its form.
	 *  @type {{ fingerprint: string, preflight: Schemas["Preflight"] } | null} */
	checked = null;
	/** Folders with files that were left out. @type {Schemas["LayoutFolder"][]} */
	leftOut = [];

	get images() {
		return this.classes.flatMap((entry) => entry.images);
	}

	/** Classes with at least one training image. */
	get trained() {
		return this.classes.filter((entry) => entry.images.some((image) => image.split === "train"));
	}

	get bad() {
		return this.images.filter((image) => image.problem?.level === "bad");
	}

	/** Class of many images that may be a pile: the only one, and in no folder or in a single one. */
	get pile() {
		const [entry, ...others] = this.classes.filter(({ images }) => images.length);
		return entry && !others.length && entry.images.length >= MIN_PILE ? entry : null;
	}

	get bytes() {
		return this.images.reduce((sum, image) => sum + image.file.size, 0);
	}

	/** Reason why training can't start yet; empty when it can. */
	get missing() {
		const trained = this.trained;
		if (trained.length < 2) return "Add images of at least two classes.";
		if (this.classes.some((entry) => !entry.name.trim() && entry.images.length)) return "Name every class.";
		if (this.bad.length) return `${count(this.bad.length, "image")} can't be read.`;
		return "";
	}

	/** Return the class of this name, else the class that a person has renamed from it, else a new one. @param {string} name */
	classNamed(name) {
		const key = keyOf(name);
		const entry =
			this.classes.find((entry) => keyOf(entry.name) === key) ??
			this.classes.find((entry) => entry.folders.has(key)) ??
			this.addClass(name);
		if (key) entry.folders.add(key);
		return entry;
	}

	addClass(name = NAMELESS) {
		/** @type {ShotClass} */
		const entry = { name, folders: new Set(), prompts: [], images: [] };
		this.classes.push(entry);
		this.changed();
		return entry;
	}

	/** @param {ShotClass} entry */
	removeClass(entry) {
		entry.images.forEach(forget);
		this.classes = this.classes.filter((other) => other !== entry);
		this.changed();
	}

	/** Add dropped images to the classes of their folders, or all to `target`. Returns the number of images.
	 *
	 *  @param {DroppedFile[]} items @param {ShotClass | null} [target] */
	async add(items, target = null) {
		const { images, leftOut } = await placesOf(items, target !== null);
		const changed = oncePerFrame(() => this.changed());
		const checks = images.map(({ className, ...placed }) => {
			const entry = target ?? this.classNamed(className ?? NAMELESS);
			lastImageId += 1;
			/** @type {Shot} */
			const image = { id: lastImageId, ...placed, problem: null };
			entry.images.push(image);
			return inspect(image).then(changed);
		});
		const outer = new Set(items.map(({ path }) => path[0])); // a folder that was dropped again
		this.leftOut = [...this.leftOut.filter(({ folder }) => !outer.has(folder.split("/")[0])), ...leftOut];
		this.changed();
		await Promise.all(checks);
		this.changed();
		return images.length;
	}

	/** @param {Shot} image */
	remove(image) {
		for (const entry of this.classes) entry.images = entry.images.filter((other) => other !== image);
		forget(image);
		this.changed();
	}

	/** Remove these images, and the classes without others. @param {Iterable<Shot>} images */
	clear(images = this.images) {
		const gone = new Set(images);
		gone.forEach(forget);
		for (const entry of this.classes) entry.images = entry.images.filter((image) => !gone.has(image));
		this.classes = this.classes.filter((entry) => entry.images.length);
		this.changed();
	}

	changed() {
		if (!this.classes.length) this.leftOut = [];
		markDuplicates(this.classes);
		this.dispatchEvent(new Event("change"));
	}

	/** Build the form for POST /adapt. Returns the form and a map from its file names to images.
	 *
	 *  @param {{ name?: string, config: object }} options */
	form({ name = "", config }) {
		const form = new FormData();
		/** @type {Map<string, Shot>} */
		const files = new Map();
		for (const entry of this.classes) {
			for (const image of entry.images) {
				const file = unique(entry.name.trim(), image.name, files);
				files.set(file, image);
				const prefix = image.split === "test" ? "test_" : "";
				form.append(`${prefix}images`, image.file, file);
				form.append(`${prefix}labels`, entry.name.trim());
			}
		}
		if (name) form.append("name", name);
		form.append("config", JSON.stringify({ ...config, ...this.prompts() }));
		return { form, files };
	}

	/** Return a string that is equal for equal forms and equal `more`. */
	fingerprint(more) {
		const content = this.classes.map(({ name, prompts, images }) => [
			name,
			prompts,
			images.map(({ id, split }) => [id, split]),
		]);
		return JSON.stringify([more, content]);
	}

	prompts() {
		const described = this.classes.filter((entry) => entry.prompts.length);
		return described.length
			? { prompts: Object.fromEntries(described.map((entry) => [entry.name.trim(), entry.prompts])) }
			: {};
	}

	/** Replace the findings of the service on single images: [{file, detail}]. `levelOf` returns "bad" or
	 *  "note" per finding. Returns the details that belong to no image.
	 *
	 *  @template {{ file?: string | null, detail: string }} Finding
	 *  @param {Finding[]} findings @param {Map<string, Shot>} files @param {(finding: Finding) => "bad" | "note"} levelOf */
	mark(findings, files, levelOf) {
		/** @type {string[]} */
		const rest = [];
		for (const image of this.images) if (image.problem?.service) image.problem = null;
		for (const finding of findings) {
			const image = files.get(finding.file ?? "");
			if (image) image.problem = { level: levelOf(finding), detail: finding.detail, service: true };
			else rest.push(finding.detail);
		}
		this.changed();
		return rest;
	}
}

/** @param {string} name */
const keyOf = (name) => name.trim().toLowerCase();

/** Return a unique file name that the service repeats unchanged in its findings.
 *
 *  @param {string} className @param {string} imageName @param {Map<string, Shot>} files */
function unique(className, imageName, files) {
	// The service strips folders and replaces control characters; a form escapes quotes and line ends.
	const plain = (text) => text.slice(-MAX_NAME_LENGTH).replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}"/\\]/gu, "_");
	const [short, long] = [plain(imageName), plain(`${className} ${imageName}`)];
	if (!files.has(short)) return short;
	let name = long;
	for (let i = 2; files.has(name); i += 1) name = `${i} ${long}`;
	return name;
}
