// Elements are made by calls, never from markup in strings: what people type stays text.

/** An HTML element. Properties that begin with "on" are listeners, `style` is an object, and what is
 *  null, undefined or false is left out, among the children too. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") {
      // The policy forbids style attributes, not this.
      for (const [key, what] of Object.entries(value)) element.style.setProperty(key, what);
    } else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Put these in place of what is there. */
export function replace(element, ...children) {
  element.replaceChildren(...shown(children));
}

/** Tell it to those who listen to a screen reader. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

let numbers = 0;
/** An id of its own, to tie a label to what it labels. */
export function newId(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}

/** A call that waits until nobody has called for so long; `cancel` forgets it. */
export function debounce(milliseconds, act) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds, ...given);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Ask before something is lost. Resolves to whether the answer was yes. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "card", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("p", {}, question),
      h(
        "div",
        { class: "row end" },
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close("no") }, "Keep it"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, yes),
      ),
    );
    dialog.setAttribute("aria-label", question);
    document.body.append(dialog);
    dialog.showModal();
  });
}
