// Dialogs that ask for classes: of one photo after the other, or of groups of photos that look alike.

import { announce, button, h, kbd, modal, replace } from "../../lib/dom.js";
import { named, namedGroup, notOf } from "../../lib/sorting/answers.js";
import { classOf, classOfKey, DIGITS, labelOf, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { count, percent } from "../../lib/words.js";
import { showPhoto } from "../stored_image.js";
import { askClass } from "./class_dialog.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

const REGROUP_AFTER = 10; // groups
const REGROUP = "regroup";

/** @param {Child} text @param {string} key @param {() => unknown} act @param {string} [kind] */
const keyButton = (text, key, act, kind) => button([text, kbd(key)], act, kind);

/** Create a dialog that goes through `length` places. `draw` gets the place, `answer` a class, and `skip` a place whose
 *  class the person doesn't know. `keys` are further keys: an act that returns false leaves its key to the browser.
 *
 *  @param {OpenPile} pile
 *  @param {{ length: number, question: HTMLElement, naming: string, draw: (place: number) => void,
 *            answer: (place: number, name: Label) => void, skip: (place: number) => void,
 *            keys?: Record<string, () => unknown>, signal: AbortSignal }} options */
function walkDialog(pile, { length, question, naming, draw, answer, skip, keys = {}, signal }) {
	let place = 0;
	/** Classes with a button. @type {string[]} */
	let shown = [];
	/** @param {number} by */
	function go(by) {
		if (place + by < 0) return;
		place += by;
		if (place >= length) return dialog.close();
		back.disabled = place === 0;
		draw(place);
	}
	/** @param {() => void} act */
	function next(act) {
		act();
		go(1);
		return true;
	}
	/** @param {Label} name */
	const take = (name) => next(() => answer(place, name));
	const leaveOut = () => next(() => skip(place));
	async function ask() {
		const name = await askClass(naming, pile.names, signal);
		if (name) take(name);
	}
	/** @type {Record<string, () => unknown>} */
	const acts = { s: leaveOut, ArrowLeft: () => go(-1), "/": ask, ...keys };
	/** @param {KeyboardEvent} event */
	function keyDown(event) {
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		const name = classOfKey(shown, event.key);
		const act = name ? () => take(name) : acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
		const isRepeated = event.repeat && event.key !== "ArrowLeft"; // a long press answers once
		if (isRepeated ? act || event.key === "Enter" : act && act() !== false) event.preventDefault();
	}
	const back = keyButton("Back", "←", () => go(-1));
	const skipping = keyButton("Skip", "S", leaveOut);
	const none = keyButton("None of these", "X", () => take(NONE));
	const close = () => dialog.close();
	function classes() {
		shown = pile.names.slice(0, DIGITS.length);
		return shown.map((name, i) => keyButton(name, DIGITS[i], () => take(name)));
	}
	const dialog = h("dialog", { class: "card walk", "aria-labelledby": question.id, onkeydown: keyDown });
	return {
		dialog,
		back,
		skip: skipping,
		none,
		close,
		classes,
		ask,
		take,
		next,
		start: () => go(0),
		place: () => place,
	};
}

/** Walk through photos. Of those that measure (`drawn`), neither the class of the sort nor an earlier label is shown. `how`
 *  says how the others are asked for. Resolves once the dialog is closed.
 *
 *  @param {OpenPile} pile @param {Schemas["AskedImage"][]} asks @param {"chosen" | "moved"} how
 *  @param {AbortSignal} signal */
export async function walk(pile, asks, how, signal) {
	const photos = pile.photosOf(asks.map(({ position }) => position));
	const howOf = asks.map(({ drawn }) => (drawn ? "drawn" : how));
	/** @type {Set<number>} */
	const answered = new Set(); // places
	const position = h("p", { class: "soft" });
	const question = h("h2", { id: "walk-question" });
	const frame = h("div", { class: "walk-picture" });
	const file = h("p", { class: "file soft" });
	const others = h("div", { class: "row" });
	const steps = walkDialog(pile, {
		length: photos.length,
		question,
		naming: "Which class is it?",
		draw,
		answer: (place, name) => {
			answered.add(place);
			pile.answer([named([photos[place].position], name, howOf[place])]);
		},
		skip: (place) => pile.answer([{ positions: [photos[place].position], said: "skip", how: howOf[place] }]),
		signal,
	});
	/** @type {Label} */
	let asked = null; // the sort may change meanwhile
	const right = keyButton("Right", "Enter", () => steps.take(asked), "main");
	steps.dialog.append(
		h("div", { class: "headline" }, question, position),
		frame,
		file,
		h("div", { class: "row" }, right, others),
		h("div", { class: "row end" }, steps.back, steps.skip, keyButton("Close", "Esc", steps.close)),
	);

	const picture = once((place) => {
		const image = h("img", { alt: "" });
		if (photos[place]) showPhoto(image, pile, photos[place].position);
		return image;
	});
	/** @param {number} place */
	function draw(place) {
		const photo = photos[place];
		const isBlind = howOf[place] === "drawn" && !answered.has(place);
		const said = isBlind ? null : labelOf(photo);
		asked = isBlind ? null : classOf(photo);
		const name = wordsFor(asked);
		replace(frame, picture(place));
		picture(place + 1); // loads meanwhile
		question.textContent = name ? (said ? `You said: ${name}` : `Is it ${name}?`) : "Which class is it?";
		position.textContent = `${place + 1} of ${photos.length}`;
		const sure = name && !said && asked !== NONE ? percent(sureness(photo)) : "";
		file.textContent = [photo.file, sure && `${name} ${sure}`].filter(Boolean).join(" · ");
		right.hidden = !name;
		replace(others, steps.classes(), keyButton("Another class …", "/", steps.ask), steps.none);
		announce(`${position.textContent}. ${question.textContent} ${sure}`.trim());
		(right.hidden ? others.querySelector("button") : right)?.focus();
	}
	const closed = modal(steps.dialog, signal);
	steps.start();
	await closed;
}

/** Walk through groups. Resolves once the dialog is closed, to whether the person wants new groups.
 *
 *  @param {OpenPile} pile @param {Schemas["PileGroup"][]} groups @param {AbortSignal} signal */
export async function groupWalk(pile, groups, signal) {
	/** @type {Set<number>} */
	const unticked = new Set(); // positions
	/** @type {Set<number>} */
	const answered = new Set(); // places
	const question = h("h2", { id: "group-question", tabindex: "-1" });
	const position = h("p", { class: "soft" });
	const hint = h("p", { class: "soft" });
	const picks = h("div", { class: "picks", role: "group" });
	const classes = h("div", { class: "row" });
	const tally = h("p", { class: "soft" });
	const isQuestion = () => groups[steps.place()]?.kind === "least_like";
	const steps = walkDialog(pile, {
		length: groups.length,
		question,
		naming: "Name them",
		draw,
		answer: (place, name) => give(place, namedGroup(groups[place], unticked, name)),
		skip: (place) => give(place, [{ positions: positionsOf(place), said: "skip", how: "group" }]),
		keys: {
			"/": () => !naming.hidden && steps.ask(),
			r: () => !regroup.hidden && startAgain(),
			Enter: () => {
				const isOnButton = document.activeElement?.matches("button:not(.pick)");
				return isQuestion() && !isOnButton && steps.next(allBelong);
			},
		},
		signal,
	});
	const allBelong = () => give(steps.place(), [notOf(positionsOf(steps.place()), NONE)]);
	const belong = keyButton("No, each is one of my classes", "Enter", () => steps.next(allBelong), "main");
	const naming = keyButton("New name …", "/", steps.ask, "main");
	function startAgain() {
		steps.dialog.close(REGROUP);
	}
	const regroup = keyButton("Regroup with the new names", "R", startAgain);
	steps.dialog.append(
		h("div", { class: "headline" }, question, position),
		hint,
		picks,
		classes,
		h("div", { class: "row" }, belong, naming, steps.none, steps.skip, regroup),
		h("div", { class: "row end" }, tally, steps.back, keyButton("Done", "Esc", steps.close)),
	);

	/** @param {number} place */
	const positionsOf = (place) => groups[place].shown;
	/** Answer for a group. A second answer replaces the first one. @param {number} place @param {PileAnswer[]} answers */
	function give(place, answers) {
		const earlier = answered.has(place);
		answered.add(place);
		pile.answer([...(earlier ? [withdrawn(groups[place].members)] : []), ...answers]);
	}
	/** @param {Photo} photo */
	function pick(photo) {
		const picture = h("img", { alt: "", hidden: true });
		const blank = h("span", { class: "blank" }, photo.name);
		const one = h(
			"button",
			{ type: "button", class: "pick", role: "checkbox", title: photo.file, "aria-label": photo.file, onclick: toggle },
			blank,
			picture,
		);
		showPhoto(picture, pile, photo.position).then((isShown) => {
			picture.hidden = !isShown;
			blank.hidden = isShown;
		});
		function toggle() {
			if (!unticked.delete(photo.position)) unticked.add(photo.position);
			mark();
		}
		function mark() {
			one.setAttribute("aria-checked", String(!unticked.has(photo.position)));
		}
		mark();
		return one;
	}
	const picksOf = once((place) => (groups[place] ? pile.photosOf(groups[place].shown).map(pick) : []));
	/** @param {number} place */
	function draw(place) {
		const { members } = groups[place];
		const asks = isQuestion();
		question.textContent = asks ? "Are any of these none of your classes?" : "What are these?";
		position.textContent = `Group ${place + 1} of ${groups.length}, ${count(members.length, "photo")}`;
		hint.textContent = asks
			? "They are the least like any class. Untick those that are one of your classes."
			: "Untick those that don't belong.";
		picks.setAttribute("aria-label", hint.textContent);
		replace(picks, picksOf(place));
		picksOf(place + 1); // loads meanwhile
		belong.hidden = !asks;
		naming.hidden = asks;
		steps.none.className = asks ? "main" : "quiet";
		regroup.hidden = answered.size < REGROUP_AFTER;
		tell();
		announce(`${question.textContent} ${position.textContent}. ${tally.textContent}`);
		(asks || pile.names.length ? question : naming).focus();
	}
	/** Show what has changed meanwhile: class names and the number of labels. */
	function tell() {
		const shown = pile.names.join("\n");
		tally.textContent = pile.tally;
		if (classes.dataset.shown === shown) return;
		classes.dataset.shown = shown;
		replace(classes, steps.classes());
	}
	pile.addEventListener("change", tell, { signal });
	const closed = modal(steps.dialog, signal);
	steps.start();
	const answer = await closed;
	pile.removeEventListener("change", tell);
	return answer === REGROUP;
}

/** @param {number[]} positions @returns {PileAnswer} */
const withdrawn = (positions) => ({ positions, said: "withdrawn", how: "group" });

/** Return a function that makes each thing once. @template T @param {(place: number) => T} make */
function once(make) {
	/** @type {Map<number, T>} */
	const made = new Map();
	return (/** @type {number} */ place) => {
		const one = made.get(place) ?? make(place);
		made.set(place, one);
		return one;
	};
}
