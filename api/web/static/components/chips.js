// Class names as chips: type one, press Enter; each may have words of its own for what it looks like.

import { announce, h, newId, replace } from "../lib/dom.js";

const MOST = 1000;

/** `names` is a list of {name, prompts} that is changed in place; `changed` is called after each change. */
export function chipField(names, changed) {
  const id = newId("names");
  let trained = new Set();
  let open = null;
  const list = h("ul", { class: "chips", "aria-label": "Names" });
  const editor = h("div", {});
  const input = h("input", {
    id,
    autocomplete: "off",
    onkeydown: (event) => {
      if (event.key === "Enter" || event.key === ",") {
        event.preventDefault();
        take(input.value);
      } else if (event.key === "Backspace" && !input.value && names.length) remove(names.at(-1));
    },
    onpaste: (event) => {
      const text = event.clipboardData.getData("text");
      if (!/[,;\n]/.test(text)) return;
      event.preventDefault(); // a whole list: from a spreadsheet, say
      take(text);
    },
    onblur: () => input.value.trim() && take(input.value),
  });
  const element = h("div", { class: "field" }, h("label", { for: id }, "What it could be"), h("div", { class: "chip-box" }, list, input), editor);

  function take(text) {
    const fresh = text.split(/[,;\n]/).map((name) => name.trim()).filter(Boolean);
    for (const name of fresh) {
      const known = names.some((of) => of.name.toLowerCase() === name.toLowerCase());
      if (!known && names.length < MOST) names.push({ name, prompts: [] });
    }
    input.value = "";
    if (!fresh.length) return;
    announce(`${fresh.join(", ")} added.`);
    draw();
    changed();
  }
  function remove(of) {
    names.splice(names.indexOf(of), 1);
    if (open === of) open = null;
    announce(`${of.name} removed.`);
    draw();
    input.focus();
    changed();
  }
  function draw() {
    input.placeholder = names.length ? "another name …" : "a name, then Enter";
    replace(list, names.map(chip));
    replace(editor, open && textsOf(open));
  }
  function unfold(of) {
    open = open === of ? null : of;
    draw();
    (editor.querySelector("textarea") ?? input).focus(); // the button that was pressed is another one now
  }
  function chip(of) {
    const kind = trained.has(of.name) ? "trained" : "new";
    const words = of.prompts.length ? ", described in words" : "";
    return h(
      "li",
      { class: `chip ${kind}` },
      h(
        "button",
        { type: "button", class: "chip-name", title: "Describe it in words", "aria-expanded": String(open === of), "aria-label": `${of.name}, ${kind === "new" ? "new" : "taught"}${words}. Describe it in words`, onclick: () => unfold(of) },
        of.name,
        of.prompts.length > 0 && h("span", { class: "quote", "aria-hidden": "true" }, "“ ”"),
      ),
      h("button", { type: "button", class: "chip-x", "aria-label": `Remove ${of.name}`, onclick: () => remove(of) }, "×"),
    );
  }
  function textsOf(of) {
    const field = h("textarea", {
      id: `${id}-prompts`,
      rows: "2",
      placeholder: "a frayed metal surface",
      oninput: () => {
        of.prompts = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
        replace(list, names.map(chip));
        changed();
      },
    });
    field.value = of.prompts.join("\n");
    return h("div", { class: "field inner" }, h("label", { for: field.id }, `What “${of.name}” looks like, a sentence a line`), field);
  }
  draw();
  return {
    element,
    /** Other names in place of these. */
    set(others) {
      names.splice(0, names.length, ...others);
      open = null;
      draw();
    },
    /** Which of them were trained. */
    kinds(known) {
      const same = known.size === trained.size && [...known].every((name) => trained.has(name));
      trained = known;
      if (!same) replace(list, names.map(chip));
    },
  };
}
