// The groups of a pile's photos: selection by mouse, touch and keys, and dragging onto a group.

import { arrange, button, focusedIn, h, kbd, newId, unseen } from "../../lib/dom.js";
import { DIGITS, ELSE, groupsOf, isGuess, labelOf, NONE, UNSURE } from "../../lib/sorting/groups.js";
import { onPhone } from "../dropzone.js";
import { tile } from "./tile.js";

const SHOWN = 60; // photos of a group without a label, until more are asked for
const MORE = 300;
const DRAGGED = "application/x-clipcite-images";
/** @import { OpenPile } from "../../lib/sorting/pile.js" */

/** @type {Record<string, string>} */
const HINTS = { [UNSURE]: "No photo is below the limit.", class: "No photos." };

/** Create the groups. `picked` is the set of selected images. `changed` is called after a change of the selection.
 *  `move` gets images and a class, `right` images whose class is right, and `press` a key that the selection doesn't use:
 *  it returns true if it has used the key. `toBar` moves the focus on from the selected images.
 *
 *  @param {OpenPile} pile @param {Set<Photo>} picked
 *  @param {{ changed: () => void, move: (photos: Photo[], name: Label) => void, look: (photos: Photo[]) => void, toBar: () => void,
 *            right: (photos: Photo[]) => void, press: (event: KeyboardEvent, photos: Photo[]) => boolean }} acts */
export function imageGroups(pile, picked, { changed, move, right, press, look, toBar }) {
	/** @type {Map<Photo, ReturnType<typeof tile>>} */
	const tiles = new Map();
	/** @type {Map<string, ReturnType<typeof newGroup>>} by name and kind */
	const groups = new Map();
	/** Number of photos shown beyond the first ones, by name and kind. @type {Map<string, number>} */
	const unfolded = new Map();
	/** @type {Map<Element, Photo>} */
	const images = new Map();
	/** @type {Photo | null} */
	let active = null; // has, or had, the focus
	/** @type {Photo | null} */
	let anchor = null; // first image of a range
	const element = h("div", {
		class: "groups",
		onkeydown: keyDown,
		onclick: click,
		ondblclick: (event) => withImage(event, (image) => look([image])),
		onfocusin: (event) => withImage(event, setActive),
		ondragstart: drag,
	});

	/** @param {Event} event @param {(image: Photo) => void} act */
	function withImage(event, act) {
		const image = at(event);
		if (image) act(image);
	}
	const at = (event) => images.get(event.target.closest?.('[role="option"]'));
	/** @returns {HTMLElement[]} */
	const order = () => [...element.querySelectorAll("li")];
	/** @param {Element[]} options @returns {Photo[]} */
	const imagesOf = (options) => options.flatMap((option) => images.get(option) ?? []);
	/** @param {Element} list */
	const shownIn = (list) => imagesOf([...list.children]);

	/** @param {Photo} image */
	function tileOf(image) {
		const one = tiles.get(image) ?? tile(pile, image);
		tiles.set(image, one);
		images.set(one.element, image);
		return one;
	}
	/** @param {string} key @param {string} kind @param {string} name */
	function newGroup(key, kind, name) {
		const id = newId("group");
		const digit = kbd("");
		const number = h("span", { class: "soft" });
		const list = h("ul", { class: "tiles", role: "listbox", "aria-multiselectable": "true", "aria-labelledby": id });
		const hint = h("p", { class: "soft" }, HINTS[kind]);
		const all = button(["Select all", unseen(` of ${name}`)], () => select(shownIn(list)), "quiet small");
		const approve = () => right(shownIn(list).filter(isGuess));
		const rest = button(["The others shown are right", unseen(`: ${name}`)], approve, "quiet small");
		const more = button("", unfold, "quiet small");
		const head = h("div", { class: "row" }, h("h2", { id }, digit, name, " ", number), all, rest);
		const section = h("section", { class: `card group ${kind}` }, head, hint, list, more);
		if (kind === "class") acceptImages(section, () => move([...picked], name));
		if (kind === ELSE) acceptImages(section, () => move([...picked], NONE));
		return { section, digit, number, list, hint, all, rest, more };
		function unfold() {
			const first = list.children.length;
			unfolded.set(key, (unfolded.get(key) ?? 0) + MORE);
			refresh();
			focus(order().find((option) => option === list.children[first]));
		}
	}

	function refresh() {
		const focused = focusedIn(element);
		const { names } = pile;
		const present = new Set(pile.photos);
		for (const image of picked) if (!present.has(image)) picked.delete(image);
		for (const [image, { element: old }] of tiles) {
			if (present.has(image)) continue;
			tiles.delete(image);
			images.delete(old);
		}
		const shown = groupsOf(pile.photos, names, pile.threshold).map(({ kind, name, photos: members }) => {
			const key = `${kind} ${name}`;
			const group = groups.get(key) ?? newGroup(key, kind, name);
			groups.set(key, group);
			group.digit.textContent = kind === ELSE ? "X" : kind === "class" ? (DIGITS[names.indexOf(name)] ?? "") : "";
			group.digit.hidden = !group.digit.textContent;
			group.number.textContent = members.length.toLocaleString("en");
			let rest = SHOWN + (unfolded.get(key) ?? 0);
			const visible = members.filter((photo) => {
				const isLabelled = labelOf(photo) !== null;
				if (!isLabelled) rest -= 1;
				return isLabelled || rest >= 0;
			});
			const options = visible.map((image) => {
				const one = tileOf(image);
				one.refresh({ withClass: kind === UNSURE, isPicked: picked.has(image) });
				return one.element;
			});
			arrange(group.list, options);
			const stop = options.find((option) => images.get(option) === active) ?? options[0];
			for (const option of options) option.tabIndex = option === stop ? 0 : -1;
			group.hint.hidden = members.length > 0;
			group.list.hidden = group.all.hidden = !members.length;
			group.rest.hidden = kind === UNSURE || !members.some(isGuess);
			group.more.hidden = visible.length === members.length;
			group.more.textContent = `Show ${Math.min(MORE, members.length - visible.length).toLocaleString("en")} more`;
			return group.section;
		});
		arrange(element, shown);
		if (!focused) return;
		if (!focused.isConnected || focused.closest("[hidden]")) focusActive();
		else if (document.activeElement !== focused) {
			focused.focus({ preventScroll: true });
			if (focused.matches(":focus-visible")) focused.scrollIntoView({ block: "nearest" }); // it was sorted elsewhere
		}
	}

	/** @param {Photo} image */
	function setActive(image) {
		active = image;
		const option = tileOf(image).element;
		for (const other of option.parentElement?.children ?? []) {
			if (other instanceof HTMLElement) other.tabIndex = other === option ? 0 : -1;
		}
	}
	/** @param {Photo[]} chosen */
	function select(chosen, { keep = false } = {}) {
		if (!keep) picked.clear();
		for (const image of chosen) picked.add(image);
		mark();
	}
	/** @param {Photo} image */
	function toggle(image) {
		if (!picked.delete(image)) picked.add(image);
		anchor = image;
		mark();
	}
	/** @param {Photo} image @param {boolean} keep */
	function range(image, keep) {
		const options = order();
		const ends = [anchor, image].map((end) => options.findIndex((option) => images.get(option) === end));
		const [from, to] = ends.sort((a, b) => a - b);
		select(imagesOf(options.slice(from < 0 ? to : from, to + 1)), { keep }); // the anchor may be hidden
	}
	function mark() {
		for (const [image, { element: option }] of tiles) option.setAttribute("aria-selected", String(picked.has(image)));
		changed();
	}
	/** @param {MouseEvent} event */
	function click(event) {
		const image = at(event);
		if (!image) return;
		if (event.shiftKey) range(image, event.ctrlKey || event.metaKey);
		else if (event.ctrlKey || event.metaKey || onPhone || (picked.size === 1 && picked.has(image))) toggle(image);
		else {
			anchor = image;
			select([image]);
		}
	}
	/** @param {HTMLElement | undefined} option */
	function focus(option) {
		option?.focus({ preventScroll: true });
		option?.scrollIntoView({ block: "nearest" });
	}
	/** @param {KeyboardEvent} event */
	function keyDown(event) {
		const image = at(event);
		if (!image) return;
		const list = tileOf(image).element.parentElement;
		const all = order();
		const siblings = all.filter((option) => option.parentElement === list);
		const place = all.indexOf(tileOf(image).element);
		const to = {
			ArrowRight: () => all[place + 1],
			ArrowLeft: () => all[place - 1],
			ArrowDown: () => vertical(all, place, 1),
			ArrowUp: () => vertical(all, place, -1),
			Home: () => siblings[0],
			End: () => siblings.at(-1),
		}[event.key]?.();
		if (to) {
			if (event.shiftKey) {
				if (!picked.size) anchor = image;
				for (const end of imagesOf([to])) range(end, false);
			}
			focus(to);
		} else if (event.key === " ") toggle(image);
		else if (event.key === "a" && (event.ctrlKey || event.metaKey)) select(imagesOf(siblings));
		else if (event.key === "Escape") select([]);
		else if (event.key === "Tab" && !event.shiftKey && picked.size) toBar();
		else if (!press(event, picked.size ? [...picked] : [image])) return;
		event.preventDefault();
	}
	/** @param {DragEvent} event */
	function drag(event) {
		const image = at(event);
		if (!image) return;
		if (!picked.has(image)) select([image]);
		event.dataTransfer?.setData(DRAGGED, "1");
		if (event.dataTransfer) event.dataTransfer.effectAllowed = "move";
	}
	/** Move the images, and the focus from them to the next one. @param {Photo[]} moved @param {() => void} act */
	function leave(moved, act) {
		const gone = new Set(moved);
		const options = order();
		const wasInside = element.contains(document.activeElement);
		const last = options.findLastIndex((option) => imagesOf([option]).some((image) => gone.has(image)));
		const next = options[last + 1];
		picked.clear();
		act();
		refresh();
		anchor = (next?.isConnected && images.get(next)) || null;
		if (anchor) setActive(anchor);
		mark();
		if (wasInside) focusActive();
	}
	function focusActive() {
		const options = order();
		focus(options.find((option) => images.get(option) === active) ?? options[0]);
	}
	/** Focus what follows the group with the focus. Returns whether there is anything. */
	function focusAfter() {
		const list = active && tileOf(active).element.parentElement;
		const stops = [...element.querySelectorAll(':is(button, [tabindex="0"]):not([hidden], [hidden] *)')];
		const next = stops[stops.findLastIndex((stop) => stop.parentElement === list) + 1];
		if (next instanceof HTMLElement) next.focus();
		return Boolean(next);
	}
	return { element, refresh, select, leave, focus: focusActive, focusAfter };
}

/** Return the option in the row above or below the one at `place`, in the nearest column.
 *
 *  @param {HTMLElement[]} options @param {number} place @param {1 | -1} step */
function vertical(options, place, step) {
	const { left, top } = options[place].getBoundingClientRect();
	let found = null;
	let row = null;
	for (let i = place + step; i >= 0 && i < options.length; i += step) {
		const spot = options[i].getBoundingClientRect();
		if (row === null && Math.abs(spot.top - top) < 2) continue;
		row ??= spot.top;
		if (Math.abs(spot.top - row) > 2) break;
		const distance = Math.abs(spot.left - left);
		if (!found || distance < found.distance) found = { option: options[i], distance };
	}
	return found?.option;
}

/** Let dragged images be dropped onto the element. @param {HTMLElement} element @param {() => void} drop */
export function acceptImages(element, drop) {
	/** @param {DragEvent} event */
	const ours = (event) => event.dataTransfer?.types.includes(DRAGGED);
	element.addEventListener("dragover", (event) => {
		if (!ours(event)) return;
		event.preventDefault();
		if (event.dataTransfer) event.dataTransfer.dropEffect = "move";
		element.classList.add("over");
	});
	element.addEventListener("dragleave", ({ relatedTarget: to }) => {
		if (!(to instanceof Node && element.contains(to))) element.classList.remove("over");
	});
	element.addEventListener("drop", (event) => {
		if (!ours(event)) return;
		event.preventDefault();
		element.classList.remove("over");
		drop();
	});
}
