// The groups of sorted images: selection by mouse, touch and keys, and dragging onto a group.

import { h, newId } from "../../lib/dom.js";
import { DIGITS, ELSE, groupsOf, isGuess, NONE, UNREAD, UNSURE } from "../../lib/sorting/groups.js";
import { onPhone } from "../dropzone.js";
import { tile } from "./tile.js";

const SHOWN = 60; // images without a label in a group, until all are asked for
const DRAGGED = "application/x-clipcite-images";
const HINTS = { [UNSURE]: "No image is below the limit.", class: "No images." };

/** Create the groups. `picked` is the set of selected images. `changed` is called after a change of the selection.
 *  `move` gets images and a class, `right` images whose class is right, and `press` a key that is none of the selection's:
 *  it returns true if it has used the key. */
export function imageGroups(sorting, picked, { changed, move, right, press, look }) {
  const tiles = new Map(); // by image
  const groups = new Map(); // by name and kind
  const unfolded = new Set();
  const images = new Map(); // by element
  let active = null; // image that has, or had, the focus
  let anchor = null; // first image of a range
  const element = h("div", { class: "groups", onkeydown: keyDown, onclick: click, ondblclick: (event) => at(event) && look([at(event)]), onfocusin: (event) => at(event) && setActive(at(event)), ondragstart: drag });

  const at = (event) => images.get(event.target.closest?.('[role="option"]'));
  const order = () => [...element.querySelectorAll('[role="option"]')];

  function tileOf(image) {
    if (!tiles.has(image)) {
      tiles.set(image, tile(image));
      images.set(tiles.get(image).element, image);
    }
    return tiles.get(image);
  }
  function group(key, kind, name) {
    if (groups.has(key)) return groups.get(key);
    const id = newId("group");
    const digit = h("kbd", { "aria-hidden": "true" });
    const number = h("span", { class: "soft" });
    const list = h("ul", { class: "tiles", role: "listbox", "aria-multiselectable": "true", "aria-labelledby": id });
    const hint = h("p", { class: "soft" }, HINTS[kind]);
    const all = h("button", { type: "button", class: "quiet small", onclick: () => select(shownIn(list)) }, "Select all", h("span", { class: "unseen" }, ` of ${name}`));
    const rest = h("button", { type: "button", class: "quiet small", onclick: () => right(shownIn(list).filter(isGuess)) }, "The others shown are right", h("span", { class: "unseen" }, `: ${name}`));
    const more = h("button", { type: "button", class: "quiet small", onclick: unfold });
    const section = h("section", { class: `card group ${kind}` }, h("div", { class: "row" }, h("h2", { id }, digit, name, " ", number), rest, all), hint, list, more);
    if (kind === "class") acceptImages(section, () => move([...picked], name));
    if (kind === ELSE) acceptImages(section, () => move([...picked], NONE));
    groups.set(key, { section, digit, number, list, hint, all, rest, more });
    return groups.get(key);
    function unfold() {
      const first = list.children.length;
      unfolded.add(key);
      refresh();
      list.children[first]?.focus({ preventScroll: true });
    }
  }
  const shownIn = (list) => [...list.children].map((option) => images.get(option));

  function refresh() {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const names = sorting.names.map(({ name }) => name);
    const present = new Set(sorting.images);
    for (const image of picked) if (!present.has(image)) picked.delete(image);
    for (const [image, { element: old }] of tiles) {
      if (present.has(image)) continue;
      tiles.delete(image);
      images.delete(old);
    }
    const shown = groupsOf(sorting.images, names, sorting.threshold).map(({ kind, name, images: members }) => {
      const key = `${kind} ${name}`;
      const { section, digit, number, list, hint, all, rest: others, more } = group(key, kind, name);
      digit.textContent = kind === ELSE ? "X" : kind === "class" ? (DIGITS[names.indexOf(name)] ?? "") : "";
      digit.hidden = !digit.textContent;
      number.textContent = members.length.toLocaleString("en");
      let rest = unfolded.has(key) ? Infinity : SHOWN;
      const visible = members.filter(({ label }) => label || (rest -= 1) >= 0);
      const options = visible.map((image) => {
        const one = tileOf(image);
        one.refresh({ withClass: kind === UNSURE, isPicked: picked.has(image) });
        return one.element;
      });
      arrange(list, options);
      const stop = options.find((option) => images.get(option) === active) ?? options[0];
      for (const option of options) option.tabIndex = option === stop ? 0 : -1;
      hint.hidden = members.length > 0;
      list.hidden = all.hidden = !members.length;
      others.hidden = kind === UNSURE || kind === UNREAD || !members.some(isGuess);
      more.hidden = visible.length === members.length;
      more.textContent = `Show all ${members.length.toLocaleString("en")}`;
      return section;
    });
    arrange(element, shown);
    if (!focused) return;
    if (!focused.isConnected || focused.closest("[hidden]")) focusActive();
    else if (document.activeElement !== focused) {
      focused.focus({ preventScroll: true });
      if (focused.matches(":focus-visible")) focused.scrollIntoView({ block: "nearest" }); // it was sorted elsewhere
    }
  }

  function setActive(image) {
    active = image;
    const option = tiles.get(image).element;
    for (const other of option.parentElement.children) other.tabIndex = other === option ? 0 : -1;
  }
  function select(chosen, { keep = false } = {}) {
    if (!keep) picked.clear();
    for (const image of chosen) picked.add(image);
    mark();
  }
  function toggle(image) {
    if (!picked.delete(image)) picked.add(image);
    anchor = image;
    mark();
  }
  function range(image, keep) {
    const options = order();
    const [from, to] = [anchor ?? image, image].map((end) => options.indexOf(tiles.get(end)?.element)).sort((a, b) => a - b);
    select(options.slice(Math.max(0, from), to + 1).map((option) => images.get(option)), { keep });
  }
  function mark() {
    for (const [image, { element: option }] of tiles) option.setAttribute("aria-selected", String(picked.has(image)));
    changed();
  }
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
  function focus(option) {
    option?.focus({ preventScroll: true });
    option?.scrollIntoView({ block: "nearest" });
  }
  /** Return the option in the row above or below, in the nearest column. */
  function vertical(option, step) {
    const options = order();
    const { left, top } = option.getBoundingClientRect();
    let found = null;
    let row = null;
    for (let i = options.indexOf(option) + step; i >= 0 && i < options.length; i += step) {
      const place = options[i].getBoundingClientRect();
      if (row === null && Math.abs(place.top - top) < 2) continue;
      row ??= place.top;
      if (Math.abs(place.top - row) > 2) break;
      if (!found || Math.abs(place.left - left) < found.distance) found = { option: options[i], distance: Math.abs(place.left - left) };
    }
    return found?.option;
  }
  function keyDown(event) {
    const image = at(event);
    if (!image) return;
    const option = tiles.get(image).element;
    const siblings = [...option.parentElement.children];
    const all = order();
    const place = all.indexOf(option);
    const to = { ArrowRight: () => all[place + 1], ArrowLeft: () => all[place - 1], ArrowDown: () => vertical(option, 1), ArrowUp: () => vertical(option, -1), Home: () => siblings[0], End: () => siblings.at(-1) }[event.key]?.();
    if (to) {
      if (event.shiftKey) {
        if (!picked.size) anchor = image;
        range(images.get(to), false);
      }
      focus(to);
    } else if (event.key === " ") toggle(image);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) select(shownIn(option.parentElement));
    else if (event.key === "Escape") select([]);
    else if (!press(event, picked.size ? [...picked] : [image])) return;
    event.preventDefault();
  }
  function drag(event) {
    const image = at(event);
    if (!image) return;
    if (!picked.has(image)) select([image]);
    event.dataTransfer.setData(DRAGGED, "1");
    event.dataTransfer.effectAllowed = "move";
  }
  /** Move the images, and the focus from them to the next one. */
  function leave(moved, act) {
    const gone = new Set(moved);
    const options = order();
    const wasInside = element.contains(document.activeElement);
    const last = options.findLastIndex((option) => gone.has(images.get(option)));
    const next = options.slice(last + 1).find((option) => !gone.has(images.get(option)));
    picked.clear();
    act();
    refresh();
    if (next?.isConnected) setActive(images.get(next));
    mark();
    if (wasInside) focusActive();
  }
  function focusActive() {
    const option = tiles.get(active)?.element;
    focus(option?.isConnected ? option : order()[0]);
  }
  return { element, refresh, select, leave, focus: focusActive };
}

/** Make these the children of the element, and move only what isn't in its place. */
function arrange(element, children) {
  const wanted = new Set(children);
  for (const child of [...element.children]) if (!wanted.has(child)) child.remove();
  let next = null;
  for (const child of children.toReversed()) {
    if (child.parentNode !== element || child.nextElementSibling !== next) element.insertBefore(child, next);
    next = child;
  }
}

/** Let dragged images be dropped onto the element. */
export function acceptImages(element, drop) {
  const ours = (event) => event.dataTransfer.types.includes(DRAGGED);
  element.addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "move";
    element.classList.add("over");
  });
  element.addEventListener("dragleave", (event) => !element.contains(event.relatedTarget) && element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    element.classList.remove("over");
    drop();
  });
}
