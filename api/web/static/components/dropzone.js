// Drop zone for files, with buttons for keyboard and touch.

import { chosen, dropped } from "../lib/files/dropped_files.js";
import { h, newId } from "../lib/dom.js";

/** True on phones and tablets. */
export const onPhone = matchMedia("(pointer: coarse)").matches;

/** Create a drop zone. `add` gets a promise of the files; `folders` adds buttons for a folder and a zip. `record`, if
 *  there is one, opens the camera. A zone inside a larger one accepts no drops of its own: `drops` is false. */
export function dropZone({ title, hint, folders = false, small = false, add, record = null, drops = true }) {
  const titleId = newId("zone");
  const zone = h(
    "div",
    { class: small ? "zone small-zone" : "zone", role: "group", "aria-labelledby": titleId },
    h("p", { class: "zone-title", id: titleId }, title),
    hint && h("p", { class: "soft" }, hint),
    h(
      "div",
      { class: "row" },
      folders && !onPhone && picker("Choose a folder", { webkitdirectory: true, multiple: true }, add),
      imagePickers(small ? "Add images" : "Choose images", add, record),
      folders && picker("Choose a zip", { accept: ".zip,application/zip" }, add),
    ),
  );
  if (drops) acceptDrops(zone, add);
  return zone;
}

/** Create the buttons that choose images or take them. Without `record` only phones take images, in their own app. */
export function imagePickers(label, add, record) {
  const take = onPhone ? "Take photos" : "Use the camera";
  return [
    picker(onPhone ? "Choose photos" : label, { multiple: true, accept: "image/*" }, add),
    record && h("button", { type: "button", class: "quiet", onclick: record }, take),
    onPhone && !record && picker(take, { accept: "image/*", capture: "environment" }, add),
  ];
}

/** Create a button that opens the system's file dialog. */
export function picker(label, properties, add) {
  const input = h("input", { type: "file", class: "unseen", tabindex: "-1", "aria-hidden": "true", ...properties });
  const button = h("button", { type: "button", class: "quiet", onclick: () => input.click() }, label);
  input.addEventListener("change", () => {
    const files = chosen(input); // must read the list before the next line empties it
    input.value = "";
    add(files);
  });
  return [button, input];
}

/** Accept dropped files. Images that are dragged within the page are left to others. */
export function acceptDrops(element, add) {
  const listen = (name, act) => element.addEventListener(name, (event) => event.dataTransfer.types.includes("Files") && act(event));
  let inside = 0; // dragenter of a child comes before dragleave of its parent
  const mark = () => element.classList.toggle("over", inside > 0);
  listen("dragenter", () => mark((inside += 1)));
  listen("dragleave", () => mark((inside -= 1)));
  listen("dragover", (event) => {
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  listen("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark((inside = 0));
    add(dropped(event.dataTransfer));
  });
}
