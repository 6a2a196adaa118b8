// DOM helpers. Elements are created by calls, never from markup in strings, so user input stays text.

/** Create an HTML element. Properties that begin with "on" are listeners, and `style` is an object.
 *  Properties and children that are null, undefined or false are left out. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Create an SVG element, with the same rules. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
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

function rendered(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace all children of the element. */
export function replace(element, ...children) {
  element.replaceChildren(...rendered(children));
}

/** Announce text to screen readers. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let lastId = 0;
/** Return a new element id, to connect a label with its field. */
export function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Debounce: call `act` once, after `milliseconds` without a new call. `cancel` drops the pending call. */
export function debounce(milliseconds, act) {
  let timer = 0;
  const later = (...parameters) => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds, ...parameters);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Ask for confirmation in a dialog. Resolves to true if the user confirms. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "card", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("p", {}, question),
      h(
        "div",
        { class: "row end" },
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close("no") }, "Go back"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, yes),
      ),
    );
    dialog.setAttribute("aria-label", question);
    document.body.append(dialog);
    dialog.showModal();
  });
}
