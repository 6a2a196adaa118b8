// Dialog that shows images one at a time and asks for their class.

import { announce, h, replace } from "../../lib/dom.js";
import { classOf, DIGITS, nameOfKey, sureness } from "../../lib/sorting/groups.js";
import { percent } from "../../lib/words.js";
import { askClass } from "./class_dialog.js";

/** Walk through the images. `names` returns the class names, and `label` gets an image and its class. Resolves once the dialog is closed. */
export function walk(images, names, label) {
  return new Promise((resolve) => {
    let place = 0;
    let url = "";
    const position = h("p", { class: "soft" });
    const question = h("h2", { id: "walk-question" });
    const picture = h("img", { alt: "", onerror: () => (picture.hidden = true) });
    const file = h("p", { class: "file soft" });
    const right = h("button", { type: "button", class: "main", onclick: () => answer(classOf(images[place])) }, "Right", h("kbd", { "aria-hidden": "true" }, "Enter"));
    const others = h("div", { class: "row" });
    const step = (text, key, by) => h("button", { type: "button", class: "quiet", onclick: () => go(by) }, text, h("kbd", { "aria-hidden": "true" }, key));
    const back = step("Back", "←", -1);
    const skip = step("Skip", "→", 1);
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

    function draw() {
      const image = images[place];
      const name = classOf(image);
      URL.revokeObjectURL(url);
      picture.hidden = false;
      picture.src = url = URL.createObjectURL(image.file);
      question.textContent = name ? (image.label ? `You said: ${name}` : `Is it ${name}?`) : "Which class is it?";
      position.textContent = `${place + 1} of ${images.length}`;
      const likely = (image.predictions ?? []).map(({ class_name: one, probability }) => `${one} ${percent(probability)}`);
      file.textContent = [image.path.join("/"), ...likely].join(" · ");
      right.hidden = !name;
      back.disabled = place === 0;
      const choice = (text, key, act) => h("button", { type: "button", class: "quiet", onclick: act }, text, h("kbd", { "aria-hidden": "true" }, key));
      replace(
        others,
        names().slice(0, DIGITS.length).map((other, i) => choice(other, DIGITS[i], () => answer(other))),
        choice("Another class …", "/", ask),
      );
      announce(`${position.textContent}. ${question.textContent}${name && !image.label ? ` ${percent(sureness(image))}.` : ""}`);
      (name ? right : others.firstChild).focus();
    }
    function go(by) {
      if (place + by < 0) return;
      place += by;
      if (place < images.length) draw();
      else dialog.close();
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
      const name = nameOfKey(names(), event.key);
      if (name) answer(name);
      else if (event.key === "ArrowRight") go(1);
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
