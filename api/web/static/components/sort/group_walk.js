// Dialog that shows groups of images that look alike, and asks for one class per group.

import { announce, h, replace } from "../../lib/dom.js";
import { classOfKey, DIGITS, NONE } from "../../lib/sorting/groups.js";
import { pictured } from "../../lib/training/image_check.js";
import { count } from "../../lib/words.js";
import { askClass } from "./class_dialog.js";

const SHOWN = 9; // images of a group
const TAUGHT = 5; // central images that get the label

/** Walk through the groups, lists of images with the most typical first. `names` returns the class names, `label` gets
 *  pairs [[image, class]], `skip` images without an answer, and `tally` returns what was labelled so far, in words. Resolves once the dialog is closed. */
export function groupWalk(groups, names, label, skip, tally) {
  return new Promise((resolve) => {
    let place = 0;
    const left = new Set(); // images without a tick
    const button = (text, key, act, kind = "quiet") => h("button", { type: "button", class: kind, onclick: act }, text, h("kbd", { "aria-hidden": "true" }, key));
    const question = h("h2", { id: "group-question", tabindex: "-1" }, "What are these?");
    const position = h("p", { class: "soft" });
    const picks = h("div", { class: "picks", role: "group", "aria-label": "Images of the group: take the tick from those that don't belong" });
    const classes = h("div", { class: "row" });
    const naming = button("New name …", "/", ask, "main");
    const none = button("None of these", "X", () => answer(NONE));
    const skip = button("Skip", "S", leaveOut);
    const back = button("Back", "←", () => go(-1));
    const done = button("Done", "Esc", () => dialog.close());
    const so = h("p", { class: "soft" });
    const dialog = h(
      "dialog",
      { class: "card walk", "aria-labelledby": question.id, onkeydown: keyDown, onclose: () => (dialog.remove(), resolve()) },
      h("div", { class: "headline" }, question, position),
      picks,
      classes,
      h("div", { class: "row" }, naming, none, skip),
      h("div", { class: "row end" }, so, back, done),
    );

    function pick(image) {
      const picture = h("img", { alt: "", hidden: true });
      const blank = h("span", { class: "blank" }, image.name);
      const one = h("button", { type: "button", class: "pick", "aria-pressed": String(!left.has(image)), "aria-label": image.name, title: image.name, onclick: toggle }, blank, picture);
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
    const shown = () => groups[place].slice(0, SHOWN);
    function draw() {
      position.textContent = `Group ${place + 1} of ${groups.length}, ${count(groups[place].length, "image")}`;
      replace(picks, shown().map(pick));
      replace(classes, names().slice(0, DIGITS.length).map((name, i) => button(name, DIGITS[i], () => answer(name))));
      back.disabled = place === 0;
      so.textContent = tally();
      announce(`${position.textContent}. ${so.textContent}`);
      (names().length ? question : naming).focus();
    }
    function go(by) {
      if (place + by < 0) return;
      place += by;
      if (place < groups.length) draw();
      else dialog.close();
    }
    /** Label the first images that have a tick. A second answer for a group replaces the first one. */
    function answer(name) {
      const taught = shown().filter((image) => !left.has(image)).slice(0, TAUGHT);
      label([...taught.map((image) => [image, name]), ...shown().filter((image) => image.label && !taught.includes(image)).map((image) => [image, null])]);
      go(1);
    }
    function leaveOut() {
      skip(groups[place]);
      go(1);
    }
    async function ask() {
      const name = await askClass("Name them", names());
      if (name) answer(name);
    }
    function keyDown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const name = classOfKey(names(), event.key);
      if (name) answer(name);
      else if (event.key.toLowerCase() === "s") leaveOut();
      else if (event.key === "/") ask();
      else if (event.key === "ArrowLeft") go(-1);
      else return;
      event.preventDefault();
    }
    document.body.append(dialog);
    dialog.showModal();
    draw();
  });
}
