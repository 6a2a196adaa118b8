// A place to drop files on, with buttons that do the same for those who don't drag.

import { chosen, dropped } from "../lib/dropped_files.js";
import { h, newId } from "../lib/dom.js";

/** `add` gets a promise of the files. `folders`: whether whole folders make sense here. */
export function dropZone({ title, hint, folders = false, small = false, add }) {
  const named = newId("zone");
  const zone = h(
    "div",
    { class: small ? "zone small-zone" : "zone", role: "group", "aria-labelledby": named },
    h("p", { class: "zone-title", id: named }, title),
    hint && h("p", { class: "soft" }, hint),
    h(
      "div",
      { class: "row" },
      folders && picker("Choose a folder", { webkitdirectory: true, multiple: true }, add),
      picker(small ? "Add images" : "Choose images", { multiple: true, accept: "image/*" }, add),
      folders && picker("Choose a zip", { accept: ".zip,application/zip" }, add),
    ),
  );
  acceptDrops(zone, add);
  return zone;
}

/** A button that opens the system's file dialog. */
export function picker(words, properties, add) {
  const input = h("input", { type: "file", class: "unseen", tabindex: "-1", "aria-hidden": "true", ...properties });
  const button = h("button", { type: "button", class: "quiet", onclick: () => input.click() }, words);
  input.addEventListener("change", () => {
    const files = chosen(input); // reads the list at once: it is emptied next
    input.value = "";
    add(files);
  });
  return [button, input];
}

export function acceptDrops(element, add) {
  let inside = 0; // a child that is entered tells so before its parent is left
  const mark = () => element.classList.toggle("over", inside > 0);
  element.addEventListener("dragenter", () => mark((inside += 1)));
  element.addEventListener("dragleave", () => mark((inside -= 1)));
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark((inside = 0));
    add(dropped(event.dataTransfer));
  });
}
