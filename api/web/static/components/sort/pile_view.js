// One pile: its settings, its state, and its photos in groups.

import { announce, h, oncePerFrame, replace } from "../../lib/dom.js";
import { imagesOf } from "../../lib/files/dropped_files.js";
import { attempt, noImagesBox, problemBox, showProblem } from "../../lib/problem.js";
import { openPile } from "../../lib/sorting/pile.js";
import { count } from "../../lib/words.js";
import { codeFor, literal, python } from "../code.js";
import { acceptDrops, dropZone, onPhone } from "../dropzone.js";
import { addTo } from "./open_pile.js";
import { keptWords } from "./pile_list.js";
import { PileSettings } from "./pile_settings.js";
import { questions } from "./questions.js";
import { SortedPhotos } from "./sorted_photos.js";
import { summaryCard } from "./summary_card.js";
import { trainingCard } from "./training_card.js";

export class PileView {
	/** @param {string} id @param {AbortSignal} signal */
	constructor(id, signal) {
		this.pile = openPile(id);
		this.signal = signal;
		this.title = h("h1", {}, "Pile");
		this.kept = h("p", { class: "soft" });
		this.hint = h("p", { class: "soft" });
		this.trouble = h("div", {}); // of acts
		this.waiting = h("div", {}); // of requests that are tried again
		this.busy = h("p", { class: "busy soft", "aria-hidden": "true" }, "Sorting …");
		/** @param {any} error */
		const failed = (error) => showProblem(this.trouble, error);
		/** @param {() => Promise<unknown>} act */
		this.attempted = (act) => attempt(this.trouble, act);
		const { attempted } = this;
		this.settings = new PileSettings(this.pile, { attempted, failed, changed: () => this.#draw(), signal });
		this.photos = new SortedPhotos(this.pile, signal);
		this.questions = questions(this.pile, { attempted, done: () => this.#asked(), signal });
		this.summary = summaryCard(this.pile, {
			askMe: () => this.questions.one("ask=10"),
			groupThem: this.questions.group,
			check: () => this.questions.one("draw=20"),
			failed,
			signal,
		});
		this.training = trainingCard(this.pile, {
			model: () => this.settings.ownModel,
			use: (model) => this.settings.models.load(model),
			signal,
		});
		this.element = this.#layout();
		acceptDrops(this.element, (items) => this.#take(items));
		const drawSoon = oncePerFrame(() => signal.aborted || this.#draw());
		this.pile.addEventListener("change", drawSoon, { signal });
		this.#draw();
		this.#begin().catch(failed);
	}

	async #begin() {
		this.pile.watch(this.signal);
		await new Promise((done) => {
			const check = () => this.pile.state && done(null);
			this.pile.addEventListener("change", check, { signal: this.signal });
			check();
		});
		await this.settings.load();
		this.#draw();
	}

	#layout() {
		const { settings, photos } = this;
		const zone = dropZone({
			title: onPhone ? "Add photos" : "Drop more photos here",
			folders: true,
			small: true,
			add: (items) => this.#take(items),
			drops: false,
		});
		zone.classList.add("slim");
		const fields = [settings.models.element, settings.chips.element, settings.limit.element];
		const code = codeFor({
			what: "this pile",
			python: () =>
				python([
					`pile = client.piles.get(${literal(this.pile.id)})`,
					"for place in pile.sort().images:",
					"    print(place.position, place.class_name)",
				]),
		});
		const panel = h("div", { class: "card panel" }, fields, zone, this.kept, settings.buttons);
		const sorted = h(
			"div",
			{ class: "sorted" },
			[this.hint, this.waiting, this.trouble, this.summary.element, this.training.element, this.busy],
			[photos.groups.element, photos.bar.element, code],
		);
		return h(
			"section",
			{ class: "sort one-pile" },
			h("div", { class: "two" }, h("div", { class: "side" }, this.title, panel), sorted),
		);
	}

	#draw() {
		const { pile, settings } = this;
		const { state, sort, problem } = pile;
		if (state && this.title.textContent !== state.name) {
			this.title.textContent = state.name;
			document.title = `${state.name} · clipcite`;
		}
		this.kept.textContent = state ? keptWords(state) : "";
		this.hint.hidden = !sort || pile.names.length > 0 || pile.isUploading;
		this.hint.textContent = this.hint.hidden
			? ""
			: "Group the photos that look alike, and name the groups. Or type the class names to sort by.";
		const warnings = (sort?.warnings ?? []).map(({ detail }) => h("p", { class: "soft" }, detail));
		replace(this.waiting, problem ? problemBox(problem) : warnings);
		const isBusy = pile.isSorting || settings.isRenaming;
		settings.refresh();
		this.summary.refresh();
		this.photos.refresh(isBusy);
		this.training.refresh();
		this.busy.hidden = !isBusy || pile.read !== null || !pile.photos.length;
		if (pile.grouping && sort && !pile.isUploading && !pile.isSorting) {
			pile.grouping = false;
			this.questions.group();
		}
	}

	/** @param {Promise<DroppedFile[]>} items */
	#take(items) {
		return this.attempted(async () => {
			const images = imagesOf(await items);
			if (!images.length) return replace(this.trouble, noImagesBox());
			await addTo(this.pile, images, { progress: () => {}, signal: this.signal });
			announce(`${count(images.length, "photo")} added.`);
		});
	}

	/** Go on after a dialog. */
	#asked() {
		announce(this.pile.tally);
		this.summary.focus();
	}
}
