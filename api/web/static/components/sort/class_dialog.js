// Dialog that asks for a class: one of the list, or a new one.

import { h, newId, replace } from "../../lib/dom.js";

const SHOWN = 30;

/** Ask for the class of some images. Resolves to its name, or to null if the dialog is left. */
export function askClass(title, names) {
  return new Promise((resolve) => {
    const id = newId("class");
    const list = h("div", { class: "choices" });
    const input = h("input", { id, autocomplete: "off", maxlength: "200", placeholder: "Type a class name", oninput: draw });
    const close = (name) => dialog.close(name ?? "");
    function draw() {
      const text = input.value.trim();
      const part = text.toLowerCase();
      const found = names.filter((name) => name.toLowerCase().includes(part)).sort((a, b) => b.toLowerCase().startsWith(part) - a.toLowerCase().startsWith(part));
      const isNew = text && !names.some((name) => name.toLowerCase() === part);
      replace(
        list,
        found.slice(0, SHOWN).map((name) => h("button", { type: "button", class: "quiet", onclick: () => close(name) }, name)),
        isNew && h("button", { type: "button", class: "quiet", onclick: () => close(text) }, `New class “${text}”`),
      );
    }
    const dialog = h(
      "dialog",
      { class: "card", "aria-labelledby": `${id}-title`, onclose: () => (dialog.remove(), resolve(dialog.returnValue || null)) },
      h(
        "form",
        {
          onsubmit: (event) => {
            event.preventDefault();
            list.querySelector("button")?.click();
          },
        },
        h("label", { for: id, id: `${id}-title` }, title),
        input,
      ),
      list,
      h("div", { class: "row end" }, h("button", { type: "button", class: "quiet", onclick: () => close(null) }, "Go back")),
    );
    draw();
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
