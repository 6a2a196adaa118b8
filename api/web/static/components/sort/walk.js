// Dialog that shows images one at a time and asks for their class.

import { announce, h, replace } from "../../lib/dom.js";
import { classOf, classOfKey, DIGITS, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { pictured } from "../../lib/training/image_check.js";
import { percent } from "../../lib/words.js";
import { askClass } from "./class_dialog.js";

/** Walk through the images. `names` returns the class names, `label` gets an image and its class, and `pass` an image
 *  that is left without an answer. With `truths`, a map of the labels so far, no answer of the service is shown.
 *  Resolves once the dialog is closed. */
export function walk(images, names, label, { pass = () => {}, truths = null } = {}) {
  return new Promise((resolve) => {
    let place = 0;
    let url = "";
    const position = h("p", { class: "soft" });
    const question = h("h2", { id: "walk-question" });
    const picture = h("img", { alt: "", onerror: () => showThumbnail() });
    const file = h("p", { class: "file soft" });
    const right = h("button", { type: "button", class: "main", onclick: () => answer(classOf(images[place])) }, "Right", h("kbd", { "aria-hidden": "true" }, "Enter"));
    const others = h("div", { class: "row" });
    const button = (text, key, act) => h("button", { type: "button", class: "quiet", onclick: act }, text, h("kbd", { "aria-hidden": "true" }, key));
    const back = button("Back", "←", () => go(-1));
    const skip = button("Skip", "→", leaveOut);
    const done = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close", h("kbd", { "aria-hidden": "true" }, "Esc"));
    const dialog = h(
      "dialog",
      { class: "card walk", "aria-labelledby": "walk-question", onkeydown: keyDown, onclose: close },
      h("div", { class: "headline" }, question, position),
      h("div", { class: "walk-picture" }, picture),
      file,
      h("div", { class: "row" }, right, others),
      h("div", { class: "row end" }, back, skip, done),
    );

    /** Show the thumbnail of a format that this browser can't show. */
    async function showThumbnail() {
      const image = images[place];
      await pictured(image);
      if (image !== images[place]) return;
      if (image.url && picture.src !== image.url) picture.src = image.url;
      else picture.hidden = true;
    }
    function draw() {
      const image = images[place];
      const said = truths ? truths.get(image) : image.label;
      const name = wordsFor(truths ? said : classOf(image));
      URL.revokeObjectURL(url);
      picture.hidden = false;
      picture.src = url = URL.createObjectURL(image.file);
      question.textContent = name ? (said ? `You said: ${name}` : `Is it ${name}?`) : "Which class is it?";
      position.textContent = `${place + 1} of ${images.length}`;
      const likely = truths ? [] : (image.predictions ?? []).map(({ class_name: one, probability }) => `${one} ${percent(probability)}`);
      file.textContent = [image.path.join("/"), ...likely].join(" · ");
      right.hidden = Boolean(truths) || !name;
      back.disabled = place === 0;
      replace(
        others,
        names().slice(0, DIGITS.length).map((other, i) => button(other, DIGITS[i], () => answer(other))),
        button("Another class …", "/", ask),
        button("None of these", "X", () => answer(NONE)),
      );
      announce(`${position.textContent}. ${question.textContent}${name && !said && !image.rejected ? ` ${percent(sureness(image))}.` : ""}`);
      (right.hidden ? others.firstChild : right).focus();
    }
    function go(by) {
      if (place + by < 0) return;
      place += by;
      if (place < images.length) draw();
      else dialog.close();
    }
    function leaveOut() {
      pass(images[place]);
      go(1);
    }
    function answer(name) {
      label(images[place], name);
      go(1);
    }
    async function ask() {
      const name = await askClass("Which class is it?", names());
      if (name) answer(name);
    }
    function keyDown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const name = classOfKey(names(), event.key);
      if (name) answer(name);
      else if (event.key === "ArrowRight") leaveOut();
      else if (event.key === "ArrowLeft") go(-1);
      else if (event.key === "/") ask();
      else return;
      event.preventDefault();
    }
    function close() {
      URL.revokeObjectURL(url);
      dialog.remove();
      resolve();
    }
    document.body.append(dialog);
    dialog.showModal();
    draw();
  });
}
