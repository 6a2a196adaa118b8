// DOM helpers. Elements are created by calls, never from markup in strings, so user input stays text.

/** Create an HTML element. Properties that begin with "on" are listeners, and `style` is an object.
 *  Properties and children that are null, undefined or false are left out.
 *
 *  @template {keyof HTMLElementTagNameMap} Tag
 *  @param {Tag} tag @param {Properties} [properties] @param {Child[]} children */
export function h(tag, properties, ...children) {
	return fill(document.createElement(tag), properties, children);
}

/** Create an SVG element, with the same rules.
 *
 *  @template {keyof SVGElementTagNameMap} Tag
 *  @param {Tag} tag @param {Properties} [properties] @param {Child[]} children */
export function svg(tag, properties, ...children) {
	return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

/** @template {HTMLElement | SVGElement} E @param {E} element @param {Properties} properties @param {Child[]} children */
function fill(element, properties = {}, children) {
	for (const [name, value] of Object.entries(properties)) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (name === "style") {
			// The content security policy forbids style attributes but allows setProperty.
			for (const [key, setting] of Object.entries(value)) element.style.setProperty(key, setting);
		} else if (value === true) element.setAttribute(name, "");
		else element.setAttribute(name, String(value));
	}
	element.append(...rendered(children));
	return element;
}

/** @param {Child[]} children @returns {(Node | string)[]} */
function rendered(children) {
	return children.flatMap((child) => {
		if (Array.isArray(child)) return rendered(child);
		return child === null || child === undefined || child === false ? [] : [child];
	});
}

/** Create a button, a quiet one unless `kind` is given.
 *
 *  @param {Child} label @param {((event: MouseEvent) => unknown) | null} [act] */
export function button(label, act = null, kind = "quiet") {
	return h("button", { type: "button", class: kind, onclick: act }, label);
}

/** Create a field with a label. @param {Child} label @param {HTMLElement} input @param {Child[]} more */
export function field(label, input, ...more) {
	input.id ||= newId("field");
	return h("div", { class: "field" }, h("label", { for: input.id }, label), input, more);
}

/** Create a fold, closed at first. @param {Child} summary @param {Child[]} children */
export const fold = (summary, ...children) => h("details", { class: "plain" }, h("summary", {}, summary), children);

/** Create the button in the corner of an image. The next one in the list gets the focus.
 *
 *  @param {string} name @param {() => void} remove */
export function removeButton(name, remove) {
	const words = { "aria-label": `Remove ${name}`, title: "Remove" };
	const own = h("button", { type: "button", class: "x", ...words, onclick: act }, "×");
	function act() {
		/** @type {NodeListOf<HTMLButtonElement> | undefined} */
		const shown = own.closest("ul")?.querySelectorAll("button.x");
		const all = [...(shown ?? [])];
		const at = all.indexOf(own);
		(all[at + 1] ?? all[at - 1])?.focus();
		remove();
	}
	return own;
}

/** Create text for screen readers. @param {string} text */
export const unseen = (text) => h("span", { class: "unseen" }, text);

/** Create the sign of a key, beside what the key does. @param {string} key */
export const kbd = (key) => h("kbd", { "aria-hidden": "true" }, key);

/** Return the element of index.html with this id. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Replace all children of the element. @param {Element} element @param {Child[]} children */
export function replace(element, ...children) {
	element.replaceChildren(...rendered(children));
}

/** Make these the children of the element, and move only what isn't in its place, since moving drops the focus inside.
 *
 *  @param {Element} element @param {Element[]} children */
export function arrange(element, children) {
	const wanted = new Set(children);
	for (const child of [...element.children]) if (!wanted.has(child)) child.remove();
	let next = null;
	for (const child of children.toReversed()) {
		if (child.parentNode !== element || child.nextElementSibling !== next) element.insertBefore(child, next);
		next = child;
	}
}

/** Return the focused element, if the element contains it. @param {HTMLElement} element */
export function focusedIn(element) {
	const focused = document.activeElement;
	return focused instanceof HTMLElement && element.contains(focused) ? focused : null;
}

/** Announce text to screen readers. @param {string} text */
export function announce(text) {
	byId("announcer").textContent = text;
}

let lastId = 0;
/** Return a new element id, to connect a label with its field. @param {string} prefix */
export function newId(prefix) {
	lastId += 1;
	return `${prefix}-${lastId}`;
}

/** Debounce: call `act` once, after `milliseconds` without a new call. `cancel` drops the pending call.
 *
 *  @param {number} milliseconds @param {() => unknown} act */
export function debounce(milliseconds, act) {
	let timer = 0;
	const cancel = () => clearTimeout(timer);
	const later = () => {
		cancel();
		timer = setTimeout(act, milliseconds);
	};
	return Object.assign(later, { cancel });
}

/** Return a function that calls `act` at the next frame, once for all calls until then. Hundreds of images may change.
 *
 *  @param {() => unknown} act */
export function oncePerFrame(act) {
	let isPlanned = false;
	return () => {
		if (isPlanned) return;
		isPlanned = true;
		requestAnimationFrame(() => {
			isPlanned = false;
			act();
		});
	};
}

/** Show a dialog. Resolves to its return value once it is closed, which the signal of its view does, too.
 *
 *  @param {HTMLDialogElement} dialog @param {AbortSignal} [signal] @returns {Promise<string>} */
export function modal(dialog, signal) {
	document.body.append(dialog);
	dialog.showModal();
	signal?.addEventListener("abort", () => dialog.close());
	return new Promise((resolve) => {
		dialog.addEventListener("close", () => {
			dialog.remove();
			resolve(dialog.returnValue);
		});
	});
}

/** Create a dialog with a title. The `last` are the buttons at its end.
 *
 *  @param {string} title @param {Child} content @param {Child[]} last */
export function titledDialog(title, content, ...last) {
	const id = newId("dialog");
	const end = h("div", { class: "row end" }, last);
	return h("dialog", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), content, end);
}

/** Ask for confirmation in a dialog. Resolves to true if the user confirms.
 *
 *  @param {string} question @param {string} yes @param {AbortSignal} [signal] @param {string} [kind] of the button */
export async function confirmed(question, yes, signal, kind = "danger") {
	const back = button("Go back", () => dialog.close("no"));
	const agree = button(yes, () => dialog.close("yes"), kind);
	const end = h("div", { class: "row end" }, back, agree);
	const dialog = h("dialog", { class: "card", "aria-label": question }, h("p", {}, question), end);
	return (await modal(dialog, signal)) === "yes";
}
