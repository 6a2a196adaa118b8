// Drop zone for files, with buttons for keyboard and touch.

import { button, h, newId } from "../lib/dom.js";
import { chosen, dropped } from "../lib/files/dropped_files.js";

/** @typedef {(files: Promise<DroppedFile[]>) => unknown} Add */

/** True on phones and tablets. */
export const onPhone = matchMedia("(pointer: coarse)").matches;

/** Create a drop zone. `add` gets a promise of the files; `folders` adds buttons for a folder and a zip. `record`, if
 *  there is one, opens the camera. A zone inside a larger one accepts no drops of its own: `drops` is false.
 *
 *  @param {{ title: string, hint?: string, folders?: boolean, small?: boolean, add: Add, record?: (() => void) | null,
 *            drops?: boolean }} options */
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

/** Create the buttons that choose images or take them. Without `record` only phones take images, in their own app.
 *
 *  @param {string} label @param {Add} add @param {(() => void) | null} record */
export function imagePickers(label, add, record) {
	const take = onPhone ? "Take photos" : "Use the camera";
	return [
		picker(onPhone ? "Choose photos" : label, { multiple: true, accept: "image/*" }, add),
		record && button(take, record),
		onPhone && !record && picker(take, { accept: "image/*", capture: "environment" }, add),
	];
}

/** Create a button that opens the system's file dialog. @param {string} label @param {Properties} properties @param {Add} add */
export function picker(label, properties, add) {
	const input = h("input", { type: "file", class: "unseen", tabindex: "-1", "aria-hidden": "true", ...properties });
	input.addEventListener("change", () => {
		const files = chosen(input); // must read the list before the next line empties it
		input.value = "";
		add(files);
	});
	return [button(label, () => input.click()), input];
}

/** Accept dropped files. Images that are dragged within the page are left to others. @param {HTMLElement} element @param {Add} add */
export function acceptDrops(element, add) {
	let inside = 0; // dragenter of a child comes before dragleave of its parent
	/** @param {"dragenter" | "dragleave" | "dragover" | "drop"} name
	 *  @param {(event: DragEvent, transfer: DataTransfer) => void} act */
	function listen(name, act) {
		element.addEventListener(name, (event) => {
			if (!event.dataTransfer?.types.includes("Files")) return;
			act(event, event.dataTransfer);
			element.classList.toggle("over", inside > 0);
		});
	}
	listen("dragenter", () => {
		inside += 1;
	});
	listen("dragleave", () => {
		inside -= 1;
	});
	listen("dragover", (event, transfer) => {
		event.preventDefault();
		transfer.dropEffect = "copy";
	});
	listen("drop", (event, transfer) => {
		event.preventDefault();
		event.stopPropagation();
		inside = 0;
		add(dropped(transfer));
	});
}
