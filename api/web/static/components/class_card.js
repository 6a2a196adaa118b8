// One class: its name, its images with what is wrong with them, and words that describe it.

import { acceptDrops, picker } from "./dropzone.js";
import { h, newId, replace } from "../lib/dom.js";
import { count } from "../lib/words.js";

const SHOWN = 24;
const FEW = 4;

export function classCard(of, shots, add) {
  let all = false;
  const id = newId("class");
  const name = h("input", {
    id,
    class: "class-name",
    maxlength: "200",
    autocomplete: "off",
    placeholder: "Name of this class",
    oninput: () => {
      of.name = name.value;
      shots.changed();
    },
  });
  const summary = h("p", { class: "soft" });
  const grid = h("ul", { class: "thumbs" });
  const more = h("button", { type: "button", class: "quiet small", onclick: () => ((all = true), refresh()) });
  const words = h("textarea", {
    rows: "2",
    id: `${id}-prompts`,
    placeholder: "a frayed metal surface",
    oninput: () => {
      of.prompts = words.value.split("\n").map((line) => line.trim()).filter(Boolean);
      shots.changed();
    },
  });
  const element = h(
    "article",
    { class: "card class", "aria-labelledby": id },
    h(
      "div",
      { class: "row" },
      h("label", { for: id, class: "unseen" }, "Name of the class"),
      name,
      h("button", { type: "button", class: "quiet small", onclick: () => shots.removeClass(of) }, "Remove", h("span", { class: "unseen" }, " this class")),
    ),
    summary,
    grid,
    more,
    h("div", { class: "row" }, picker("Add images", { multiple: true, accept: "image/*" }, add)),
    h(
      "details",
      { class: "plain" },
      h("summary", {}, "Describe it in words"),
      h("label", { for: words.id, class: "soft" }, "Worth it where the name alone says little, such as a part number. A sentence a line."),
      words,
    ),
  );
  acceptDrops(element, add);

  const cells = new Map();
  function refresh() {
    if (name.value !== of.name) name.value = of.name;
    if (document.activeElement !== words) words.value = of.prompts.join("\n");
    const learnt = of.images.filter((image) => image.split === "train").length;
    const tests = of.images.length - learnt;
    const few = learnt > 0 && learnt < FEW ? " A few more would help." : "";
    summary.textContent = `${count(learnt, "image")} to learn from${tests ? `, ${tests} to test on` : ""}.${few}`;
    // Those with problems first: they must not hide behind "show all". Those to test on come last.
    const order = [...of.images].sort((a, b) => rank(b) - rank(a) || (a.split === "test") - (b.split === "test"));
    const shown = all ? order : order.slice(0, SHOWN);
    for (const image of shown) {
      if (!cells.has(image)) cells.set(image, thumbnail(image, shots));
      cells.get(image).refresh();
    }
    replace(grid, shown.map((image) => cells.get(image).element));
    more.hidden = shown.length === order.length;
    more.textContent = `Show all ${order.length}`;
  }
  return { element, refresh };
}

function rank(image) {
  return { bad: 2, note: 1 }[image.problem?.level] ?? 0;
}

function thumbnail(image, shots) {
  const tests = image.split === "test";
  const image = h("img", { alt: tests ? `${image.name}, to test on` : image.name, width: "84", height: "84" });
  const blank = h("span", { class: "blank" }, image.name);
  const badge = h("span", { class: "badge" });
  const remove = h(
    "button",
    { type: "button", class: "x", title: "Remove", "aria-label": `Remove ${image.name}`, onclick: () => shots.remove(image) },
    "×",
  );
  const element = h("li", {}, blank, image, tests && h("span", { class: "tag split", "aria-hidden": "true" }, "test"), remove, badge);
  let shown = "";
  function refresh() {
    if (image.url && image.getAttribute("src") !== image.url) image.src = image.url;
    image.hidden = !image.url;
    blank.hidden = Boolean(image.url);
    const { level = "", detail = "" } = image.problem ?? {};
    const now = `${level} ${detail}`;
    if (now === shown) return;
    shown = now;
    element.className = level;
    badge.textContent = detail;
    badge.hidden = !detail;
  }
  return { element, refresh };
}
