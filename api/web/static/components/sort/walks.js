// Dialogs that ask for classes: of one image after the other, or of groups of images that look alike.

import { announce, button, h, kbd, modal, replace } from "../../lib/dom.js";
import { classOf, classOfKey, DIGITS, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { pictured } from "../../lib/training/image_check.js";
import { count, percent } from "../../lib/words.js";
import { askClass } from "./class_dialog.js";

const SHOWN = 9; // images of a group
const TAUGHT = 5; // central images that get the label

/** @param {string} text @param {string} key @param {() => unknown} act @param {string} [kind] */
const keyButton = (text, key, act, kind) => button([text, kbd(key)], act, kind);

/** Create a dialog that goes through `length` places. `draw` gets the place, `answer` a class, and `pass` is called for a
 *  place without an answer, which the key `passKey` leaves, too.
 *
 *  @param {{ length: number, question: HTMLElement, naming: string, names: () => string[], passKey: string,
 *            draw: (place: number) => void, answer: (place: number, name: Label) => void,
 *            pass: (place: number) => void, signal: AbortSignal }} options */
function walkDialog({ length, question, naming, names, passKey, draw, answer, pass, signal }) {
	let place = 0;
	/** @param {number} by */
	function go(by) {
		if (place + by < 0) return;
		place += by;
		if (place >= length) return dialog.close();
		back.disabled = place === 0;
		draw(place);
	}
	/** @param {Label} name */
	function take(name) {
		answer(place, name);
		go(1);
	}
	function leaveOut() {
		pass(place);
		go(1);
	}
	async function ask() {
		const name = await askClass(naming, names(), signal);
		if (name) take(name);
	}
	/** @param {KeyboardEvent} event */
	function keyDown(event) {
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		const name = classOfKey(names(), event.key);
		const passes = event.key.toLowerCase() === passKey.toLowerCase();
		const isAnswer = name || passes || event.key === "Enter";
		if (event.repeat && isAnswer)
			event.preventDefault(); // a long press answers for one image only
		else if (name) take(name);
		else if (passes) leaveOut();
		else if (event.key === "ArrowLeft") go(-1);
		else if (event.key === "/") ask();
		else return;
		event.preventDefault();
	}
	const back = keyButton("Back", "←", () => go(-1));
	const skip = keyButton("Skip", passKey === "ArrowRight" ? "→" : passKey, leaveOut);
	const none = keyButton("None of these", "X", () => take(NONE));
	const close = () => dialog.close();
	const classes = () =>
		names()
			.slice(0, DIGITS.length)
			.map((name, i) => keyButton(name, DIGITS[i], () => take(name)));
	const dialog = h("dialog", { class: "card walk", "aria-labelledby": question.id, onkeydown: keyDown });
	return { dialog, back, skip, none, close, classes, ask, take, start: () => go(0), place: () => place };
}

/** Walk through the images. `names` returns the class names, `label` gets an image and its class, and `pass` an image
 *  that is left without an answer. With `truths`, a map of the labels so far, no answer of the service is shown.
 *  Resolves once the dialog is closed.
 *
 *  @param {SortedImage[]} images @param {() => string[]} names @param {(image: SortedImage, name: Label) => void} label
 *  @param {{ pass?: (image: SortedImage) => void, truths?: Map<SortedImage, Label> | null, signal: AbortSignal }} options */
export async function walk(images, names, label, { pass = () => {}, truths = null, signal }) {
	let url = "";
	const position = h("p", { class: "soft" });
	const question = h("h2", { id: "walk-question" });
	const picture = h("img", { alt: "", onerror: showThumbnail });
	const file = h("p", { class: "file soft" });
	const others = h("div", { class: "row" });
	const steps = walkDialog({
		length: images.length,
		question,
		naming: "Which class is it?",
		names,
		passKey: "ArrowRight",
		draw,
		answer: (place, name) => label(images[place], name),
		pass: (place) => pass(images[place]),
		signal,
	});
	/** @type {Label} */
	let asked = null; // the answer of the service may change meanwhile
	const right = keyButton("Right", "Enter", () => steps.take(asked), "main");
	steps.dialog.append(
		h("div", { class: "headline" }, question, position),
		h("div", { class: "walk-picture" }, picture),
		file,
		h("div", { class: "row" }, right, others),
		h("div", { class: "row end" }, steps.back, steps.skip, keyButton("Close", "Esc", steps.close)),
	);

	/** Show the thumbnail of a format that this browser can't show. */
	async function showThumbnail() {
		const image = images[steps.place()];
		await pictured(image);
		if (image !== images[steps.place()]) return;
		if (image.url && picture.src !== image.url) picture.src = image.url;
		else picture.hidden = true;
	}
	/** @param {number} place */
	function draw(place) {
		const image = images[place];
		const said = truths ? truths.get(image) : image.label;
		asked = classOf(image);
		const name = wordsFor(truths ? said : asked);
		const known = truths ? [] : (image.predictions ?? []);
		URL.revokeObjectURL(url);
		picture.hidden = false;
		picture.src = url = URL.createObjectURL(image.file);
		question.textContent = name ? (said ? `You said: ${name}` : `Is it ${name}?`) : "Which class is it?";
		position.textContent = `${place + 1} of ${images.length}`;
		file.textContent = [
			image.path.join("/"),
			...known.map(({ class_name: one, probability }) => `${one} ${percent(probability)}`),
		].join(" · ");
		right.hidden = Boolean(truths) || !name;
		replace(others, steps.classes(), keyButton("Another class …", "/", steps.ask), steps.none);
		const sure = name && !said && !image.rejected ? ` ${percent(sureness(image))}.` : "";
		announce(`${position.textContent}. ${question.textContent}${sure}`);
		(right.hidden ? others.querySelector("button") : right)?.focus();
	}
	const closed = modal(steps.dialog, signal);
	steps.start();
	await closed;
	URL.revokeObjectURL(url);
}

/** Walk through the groups, lists of images with the most typical first. `names` returns the class names, `label` gets
 *  pairs [[image, class]], `skip` images without an answer, and `tally` returns what was labelled so far, in words.
 *  Resolves once the dialog is closed.
 *
 *  @param {SortedImage[][]} groups @param {() => string[]} names @param {(pairs: [SortedImage, Label][]) => void} label
 *  @param {(images: SortedImage[]) => void} skip @param {() => string} tally
 *  @param {AbortSignal} signal */
export async function groupWalk(groups, names, label, skip, tally, signal) {
	const left = new Set(); // images without a tick
	const question = h("h2", { id: "group-question", tabindex: "-1" }, "What are these?");
	const position = h("p", { class: "soft" });
	const hint = "Images of the group: untick those that don't belong";
	const picks = h("div", { class: "picks", role: "group", "aria-label": hint });
	const classes = h("div", { class: "row" });
	const so = h("p", { class: "soft" });
	const steps = walkDialog({
		length: groups.length,
		question,
		naming: "Name them",
		names,
		passKey: "S",
		draw,
		answer,
		pass: (place) => skip(groups[place]),
		signal,
	});
	const naming = keyButton("New name …", "/", steps.ask, "main");
	steps.dialog.append(
		h("div", { class: "headline" }, question, position),
		picks,
		classes,
		h("div", { class: "row" }, naming, steps.none, steps.skip),
		h("div", { class: "row end" }, so, steps.back, keyButton("Done", "Esc", steps.close)),
	);

	/** @param {SortedImage} image */
	function pick(image) {
		const picture = h("img", { alt: "", hidden: true });
		const blank = h("span", { class: "blank" }, image.name);
		const state = { "aria-pressed": String(!left.has(image)), "aria-label": image.name, title: image.name };
		const one = h("button", { type: "button", class: "pick", ...state, onclick: toggle }, blank, picture);
		pictured(image).then(() => {
			if (!image.url) return; // a format that this browser can't show
			picture.src = image.url;
			picture.hidden = false;
			blank.hidden = true;
		});
		function toggle() {
			if (!left.delete(image)) left.add(image);
			one.setAttribute("aria-pressed", String(!left.has(image)));
		}
		return one;
	}
	/** @param {number} place */
	const shown = (place) => groups[place].slice(0, SHOWN);
	/** @param {number} place */
	function draw(place) {
		position.textContent = `Group ${place + 1} of ${groups.length}, ${count(groups[place].length, "image")}`;
		replace(picks, shown(place).map(pick));
		replace(classes, steps.classes());
		so.textContent = tally();
		announce(`${position.textContent}. ${so.textContent}`);
		(names().length ? question : naming).focus();
	}
	/** Label the first images that have a tick. A second answer for a group replaces the first one.
	 *
	 *  @param {number} place @param {Label} name */
	function answer(place, name) {
		const taught = shown(place)
			.filter((image) => !left.has(image))
			.slice(0, TAUGHT);
		const others = shown(place).filter((image) => image.label && !taught.includes(image));
		label([...taught.map((image) => pair(image, name)), ...others.map((image) => pair(image, null))]);
	}
	const closed = modal(steps.dialog, signal);
	steps.start();
	await closed;
}

/** @param {SortedImage} image @param {Label} name @returns {[SortedImage, Label]} */
const pair = (image, name) => [image, name];
