// One pile: its photos in groups, and what a person does with them.

import { announce, button, debounce, h, newId, oncePerFrame, replace } from "../../lib/dom.js";
import { imagesOf } from "../../lib/files/dropped_files.js";
import { noImagesBox, problemBox, showProblem } from "../../lib/problem.js";
import { named } from "../../lib/sorting/answers.js";
import { classOf, classOfKey, isGuess, labelOf, wordsFor } from "../../lib/sorting/groups.js";
import { openPile } from "../../lib/sorting/pile.js";
import { count, percent } from "../../lib/words.js";
import { codeFor, literal, python } from "../code.js";
import { acceptDrops, dropZone, onPhone } from "../dropzone.js";
import { chipField } from "../try/chips.js";
import { modelSelect, STOCK } from "../try/model_select.js";
import { askClass } from "./class_dialog.js";
import { imageGroups } from "./groups.js";
import { askName } from "./name_dialog.js";
import { addTo } from "./open_pile.js";
import { deletePile, keptWords } from "./pile_list.js";
import { selectionBar } from "./selection_bar.js";
import { summaryCard } from "./summary_card.js";
import { trainingCard } from "./training_card.js";
import { groupWalk, walk } from "./walks.js";

export class PileView {
	/** @type {Set<Photo>} */
	#picked = new Set();
	/** Class names, as in the field. @type {ClassName[]} */
	#names = [];
	#isRenaming = false;
	#isAsking = false;
	/** Whether the list of models is there. */
	#hasModels = false;

	/** @param {string} id @param {AbortSignal} signal */
	constructor(id, signal) {
		this.pile = openPile(id);
		this.signal = signal;
		const failed = (error) => this.#failed(error);
		this.models = modelSelect({ choose: (model) => this.#choose(model), failed, signal });
		this.chips = chipField(this.#names, () => this.#renamed());
		this.title = h("h1", {}, "Pile");
		this.kept = h("p", { class: "soft" });
		this.hint = h("p", { class: "soft" });
		this.trouble = h("div", {}); // of acts
		this.waiting = h("div", {}); // of requests that are tried again
		this.zone = dropZone({
			title: onPhone ? "Add photos" : "Drop more photos here",
			folders: true,
			small: true,
			add: (items) => this.#take(items),
			drops: false,
		});
		this.zone.classList.add("slim");
		this.busy = h("p", { class: "busy soft", "aria-hidden": "true" }, "Sorting …");
		this.limit = this.#limitField();
		this.summary = summaryCard(this.pile, {
			askMe: () => this.#ask("ask=10"),
			groupThem: () => this.#group(),
			check: () => this.#ask("draw=20"),
			failed,
			signal,
		});
		this.training = trainingCard(this.pile, {
			model: () => this.#ownModel(),
			use: (model) => this.models.load(model),
			signal,
		});
		this.groups = imageGroups(this.pile, this.#picked, {
			changed: () => this.selection.refresh(),
			move: (photos, name) => this.#move(photos, name),
			right: (photos) => this.#approve(photos),
			press: (event, photos) => this.#press(event, photos),
			look: (photos) => this.#look(photos),
		});
		const chosen = () => [...this.#picked];
		this.selection = selectionBar(this.pile, this.#picked, {
			move: (name) => this.#move(chosen(), name),
			ask: () => this.#askFor(chosen()),
			right: () => this.#approve(chosen()),
			look: () => this.#look(chosen()),
			skip: () => this.#skip(chosen()),
			back: () => this.#takeBack(chosen()),
			undo: () => this.#undo(),
			clear: () => this.groups.select([]),
			left: () => this.groups.focus(),
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
		await this.models.load(this.pile.state?.model);
		this.#hasModels = true;
		this.#draw();
	}

	#layout() {
		const rename = button("Rename", () => this.#rename(), "quiet small");
		const remove = button("Delete", () => this.#remove(), "quiet small");
		return h(
			"section",
			{ class: "sort one-pile" },
			h(
				"div",
				{ class: "two" },
				h(
					"div",
					{ class: "side" },
					this.title,
					h(
						"div",
						{ class: "card panel" },
						this.models.element,
						this.chips.element,
						this.limit.element,
						this.zone,
						this.kept,
						h(
							"div",
							{ class: "row" },
							h("a", { class: "button quiet small", href: "#/sort" }, "All piles"),
							rename,
							remove,
						),
					),
				),
				h(
					"div",
					{ class: "sorted" },
					this.hint,
					this.waiting,
					this.trouble,
					this.summary.element,
					this.training.element,
					this.busy,
					this.groups.element,
					this.selection.element,
					codeFor({
						what: "this pile",
						python: () =>
							python([
								`pile = client.piles.get(${literal(this.pile.id)})`,
								"for place in pile.sort().images:",
								"    print(place.position, place.class_name)",
							]),
					}),
				),
			),
		);
	}

	#limitField() {
		const id = newId("limit");
		const value = h("span", { class: "value", "aria-hidden": "true" });
		const input = h("input", {
			id,
			type: "range",
			min: "0",
			max: "1",
			step: "0.01",
			oninput: () => {
				this.pile.threshold = Number(input.value);
				this.pile.changed();
			},
		});
		input.value = String(this.pile.threshold);
		const element = h("div", { class: "field limit" }, h("label", { for: id }, "Unsure below ", value), input);
		const refresh = () => {
			value.textContent = percent(this.pile.threshold);
			input.setAttribute("aria-valuetext", value.textContent);
			element.hidden = !this.pile.names.length;
		};
		return { element, refresh };
	}

	#draw() {
		const { state, sort, problem } = this.pile;
		if (state && this.title.textContent !== state.name) {
			this.title.textContent = state.name;
			document.title = `${state.name} · clipcite`;
		}
		this.kept.textContent = state ? keptWords(state) : "";
		this.hint.textContent =
			sort && !this.pile.names.length && !this.pile.isUploading
				? "Group the photos that look alike, and name the groups. Or type the class names to sort by."
				: "";
		this.hint.hidden = !this.hint.textContent;
		const warnings = (sort?.warnings ?? []).map(({ detail }) => h("p", { class: "soft" }, detail));
		replace(this.waiting, problem ? problemBox(problem) : warnings);
		this.#drawNames();
		this.limit.refresh();
		this.summary.refresh();
		this.groups.refresh();
		this.selection.refresh();
		this.training.refresh();
		this.groups.element.hidden = !this.pile.photos.length;
		const isBusy = this.pile.isSorting || this.#isRenaming;
		this.groups.element.setAttribute("aria-busy", String(isBusy));
		this.busy.hidden = !isBusy || this.pile.read !== null || !this.pile.photos.length;
		if (this.pile.grouping && sort && !this.pile.isUploading && !this.pile.isSorting) {
			this.pile.grouping = false;
			this.#group();
		}
	}

	/** Show the names of the pile in the field, with the prompts that were typed here. */
	#drawNames() {
		const { names } = this.pile;
		const prompts = new Map(this.#names.map((entry) => [entry.name, entry.prompts]));
		const isSame = names.length === prompts.size && names.every((name) => prompts.has(name));
		if (!isSame && !this.#isRenaming) this.chips.set(names.map((name) => ({ name, prompts: prompts.get(name) ?? [] })));
		this.chips.kinds(new Set(this.models.current()?.trained_classes ?? []));
	}

	/** @param {any} error */
	#failed(error) {
		if (typeof error === "string") replace(this.trouble, problemBox(error));
		else showProblem(this.trouble, error);
	}

	/** Do something, and show its error. @param {() => Promise<unknown>} act */
	async #try(act) {
		replace(this.trouble);
		try {
			await act();
		} catch (error) {
			this.#failed(error);
		}
	}

	// Settings of the pile

	#ownModel() {
		const model = this.models.current();
		return model?.job_id && !model.preview ? model : null;
	}

	/** Sort with another model. Class names that a person typed stay. @param {string} model */
	#choose(model) {
		const { state } = this.pile;
		if (!this.#hasModels && model !== state?.model) return; // the reference of the pile has this id
		if (!state || model === state.model) return;
		const trained = model === STOCK ? [] : (this.models.current()?.trained_classes ?? []);
		const before = new Set([...this.#trained, ...trained].map((name) => name.toLowerCase()));
		const typed = this.#names.filter(({ name }) => !before.has(name.toLowerCase()));
		const names = typed.length ? [...trained, ...typed.map(asSent)] : null; // null for the model's
		return this.#try(() => this.pile.change({ model, class_names: names }));
	}

	/** Names of the classes that the model of the last sort was trained on. */
	get #trained() {
		return (this.pile.sort?.class_names ?? []).filter(({ kind }) => kind === "trained").map(({ name }) => name);
	}

	#sendNames = debounce(400, () =>
		this.#try(() => this.pile.change({ class_names: this.#names.map(asSent) })).finally(() => {
			this.#isRenaming = false;
			this.#draw();
		}),
	);

	#renamed() {
		this.#isRenaming = true;
		this.#draw();
		this.#sendNames();
	}

	async #rename() {
		const name = await askName("Name of the pile", {
			value: this.pile.state?.name,
			yes: "Rename",
			signal: this.signal,
		});
		if (name) await this.#try(() => this.pile.change({ name }));
	}

	#remove() {
		return this.#try(async () => {
			if (this.pile.state && (await deletePile(this.pile.state, this.signal))) location.hash = "#/sort";
		});
	}

	/** @param {Promise<DroppedFile[]>} items */
	#take(items) {
		return this.#try(async () => {
			const images = imagesOf(await items);
			if (!images.length) return replace(this.trouble, noImagesBox());
			await addTo(this.pile, images, { progress: () => {}, signal: this.signal });
			announce(`${count(images.length, "photo")} added.`);
		});
	}

	// Answers

	/** @param {Photo[]} photos @param {Label} name @param {string} [done] */
	#move(photos, name, done = `moved to ${wordsFor(name)}`) {
		this.#give(photos, [named(positionsOf(photos), name, "moved")], done);
	}

	/** Give answers for the photos. @param {Photo[]} photos @param {PileAnswer[]} answers @param {string} done */
	#give(photos, answers, done) {
		if (!photos.length) return;
		this.groups.leave(photos, () => this.pile.answer(answers));
		announce(`${count(photos.length, "photo")} ${done}.`);
	}

	/** Say that the guesses among the photos are right. @param {Photo[]} photos */
	#approve(photos) {
		const guesses = photos.filter(isGuess);
		const answers = [...Map.groupBy(guesses, classOf)].map(([name, members]) =>
			named(positionsOf(members), name, "moved"),
		);
		this.#give(guesses, answers, "confirmed");
	}

	/** @param {Photo[]} photos */
	#takeBack(photos) {
		const labelled = photos.filter((photo) => labelOf(photo) !== null);
		this.#give(labelled, [{ positions: positionsOf(labelled), said: "withdrawn", how: "moved" }], "taken back");
	}

	/** @param {Photo[]} photos */
	#skip(photos) {
		this.#give(photos, [{ positions: positionsOf(photos), said: "skip", how: "moved" }], "skipped");
	}

	/** @param {Photo[]} photos */
	async #askFor(photos) {
		const name = await askClass(`Move ${count(photos.length, "photo")} to`, this.pile.names, this.signal);
		if (name) this.#move(photos, name);
	}

	#undo() {
		const photos = this.pile.undo();
		this.groups.refresh();
		this.groups.select(photos);
		announce(`Undone: ${count(photos.length, "photo")}.`);
	}

	/** @param {Photo[]} photos */
	#look(photos) {
		const asks = photos.map(({ position }) => ({ position, drawn: false }));
		return walk(this.pile, asks, "moved", this.signal);
	}

	/** Use a key that was pressed on a photo. @param {KeyboardEvent} event @param {Photo[]} photos */
	#press(event, photos) {
		const isCommand = event.ctrlKey || event.metaKey;
		const name = classOfKey(this.pile.names, event.key);
		if (isCommand && event.key === "z") this.#undo();
		else if (isCommand || event.altKey || event.repeat) return false;
		else if (name) this.#move(photos, name);
		else if (event.key === "/") this.#askFor(photos);
		else if (event.key === "Enter") this.#approve(photos);
		else if (event.key === "Delete" || event.key === "Backspace") this.#takeBack(photos);
		else if (event.key.toLowerCase() === "s") this.#skip(photos);
		else if (event.key.toLowerCase() === "l") this.#look(photos);
		else return false;
		return true;
	}

	/** Ask something, unless a question is on its way: a large pile takes seconds. @param {() => Promise<unknown>} act */
	async #once(act) {
		if (this.#isAsking) return;
		this.#isAsking = true;
		await this.#try(act);
		this.#isAsking = false;
	}
	/** Ask about the photos that the service chooses: `ask=10` or `draw=20`. @param {string} query */
	#ask(query) {
		return this.#once(async () => {
			const { ask = [] } = await this.pile.choose(query);
			if (!ask.length) return this.#failed("There are no photos to ask about: all have an answer.");
			await walk(this.pile, ask, "chosen", this.signal);
			this.#asked();
		});
	}

	#group() {
		return this.#once(async () => {
			for (let again = true; again; ) {
				const { groups = [] } = await this.pile.choose("groups=500");
				if (!groups.length)
					return this.#failed(
						"There are no groups to ask about: the photos are too few, or most have an answer. Select the others, and move them to a class.",
					);
				again = await groupWalk(this.pile, groups, this.signal);
			}
			this.#asked();
		});
	}

	/** Go on after a dialog. */
	#asked() {
		announce(this.pile.tally);
		this.summary.focus();
	}
}

/** @param {Photo[]} photos */
const positionsOf = (photos) => photos.map(({ position }) => position);

/** @param {ClassName} entry */
const asSent = (entry) => (entry.prompts.length ? entry : entry.name);
