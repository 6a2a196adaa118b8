// The photos of a pile in their groups, the bar for the selected ones, and what a person says about them.

import { announce } from "../../lib/dom.js";
import { named } from "../../lib/sorting/answers.js";
import { classOf, classOfKey, isGuess, labelOf, wordsFor } from "../../lib/sorting/groups.js";
import { count } from "../../lib/words.js";
import { askClass } from "./class_dialog.js";
import { imageGroups } from "./groups.js";
import { selectionBar } from "./selection_bar.js";
import { walk } from "./walks.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

export class SortedPhotos {
	/** @type {Set<Photo>} */
	#picked = new Set();

	/** @param {OpenPile} pile @param {AbortSignal} signal */
	constructor(pile, signal) {
		this.pile = pile;
		this.signal = signal;
		const chosen = () => [...this.#picked];
		this.groups = imageGroups(pile, this.#picked, {
			changed: () => this.bar.refresh(),
			move: (photos, name) => this.#move(photos, name),
			right: (photos) => this.#approve(photos),
			press: (event, photos) => this.#press(event, photos),
			look: (photos) => this.#look(photos),
			toBar: () => this.bar.focus(),
		});
		this.bar = selectionBar(pile, this.#picked, {
			move: (name) => this.#move(chosen(), name),
			ask: () => this.#ask(chosen()),
			right: () => this.#approve(chosen()),
			look: () => this.#look(chosen()),
			skip: () => this.#skip(chosen()),
			back: () => this.#takeBack(chosen()),
			undo: () => this.#undo(),
			clear: () => this.groups.select([]),
			left: () => this.groups.focus(),
			after: () => this.groups.focusAfter(),
		});
	}

	/** @param {boolean} isBusy */
	refresh(isBusy) {
		this.groups.refresh();
		this.bar.refresh();
		this.groups.element.hidden = !this.pile.photos.length;
		this.groups.element.setAttribute("aria-busy", String(isBusy));
	}

	/** Use a key that was pressed on a photo. @param {KeyboardEvent} event @param {Photo[]} photos */
	#press(event, photos) {
		const isCommand = event.ctrlKey || event.metaKey;
		const name = classOfKey(this.pile.names, event.key);
		if (isCommand && event.key === "z") this.#undo();
		else if (isCommand || event.altKey || event.repeat) return false;
		else if (name) this.#move(photos, name);
		else if (event.key === "/") this.#ask(photos);
		else if (event.key === "Enter") this.#approve(photos);
		else if (event.key === "Delete" || event.key === "Backspace") this.#takeBack(photos);
		else if (event.key.toLowerCase() === "s") this.#skip(photos);
		else if (event.key.toLowerCase() === "l") this.#look(photos);
		else return false;
		return true;
	}

	/** @param {Photo[]} photos @param {Label} name */
	#move(photos, name) {
		this.#give(photos, [named(positionsOf(photos), name, "moved")], `moved to ${wordsFor(name)}`);
	}

	/** Say that the guesses among the photos are right. @param {Photo[]} photos */
	#approve(photos) {
		const guesses = photos.filter(isGuess);
		const classes = [...Map.groupBy(guesses, classOf)];
		const answers = classes.map(([name, members]) => named(positionsOf(members), name, "moved"));
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

	/** Give answers for the photos. @param {Photo[]} photos @param {PileAnswer[]} answers @param {string} done */
	#give(photos, answers, done) {
		if (!photos.length) return;
		this.groups.leave(photos, () => this.pile.answer(answers));
		announce(`${count(photos.length, "photo")} ${done}.`);
	}

	/** @param {Photo[]} photos */
	async #ask(photos) {
		const name = await askClass(`Move ${count(photos.length, "photo")} to`, this.pile.names, this.signal);
		if (name) this.#move(photos, name);
	}

	/** @param {Photo[]} photos */
	#look(photos) {
		const asks = photos.map(({ position }) => ({ position, drawn: false }));
		return walk(this.pile, asks, "moved", this.signal);
	}

	#undo() {
		const photos = this.pile.undo();
		this.groups.refresh();
		this.groups.select(photos);
		announce(`Undone: ${count(photos.length, "photo")}.`);
	}
}

/** @param {Photo[]} photos */
const positionsOf = (photos) => photos.map(({ position }) => position);
