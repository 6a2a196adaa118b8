// Dialog that asks for the format of a model's download.

import { button, h, modal, newId, titledDialog } from "../lib/dom.js";
import { download } from "../lib/service/http.js";

/** Format, title and purpose. */
const FORMATS = [
	["open_clip", "open_clip", "For a Python program: a folder that open_clip loads."],
	["classifier", "ONNX, classes only", "For an app without Python: one file, from a photo to your classes."],
	["onnx", "ONNX, photos and words", "For search, and for class names that you add later: two files."],
	["transformers", "Transformers", "For a Python program with Hugging Face’s transformers."],
	["immich", "Immich", "For the photo library Immich: search with your model."],
	["delta", "clipcite", "For another clipcite service, or to keep: a small file with what was learned."],
];

/** Ask for a format, and download the model.
 *
 *  @param {string} model its id @param {string} name @param {AbortSignal} signal */
export async function downloadModel(model, name, signal) {
	const id = newId("format");
	const choices = FORMATS.map(([format, title, purpose], i) => {
		const input = h("input", { type: "radio", name: id, value: format, checked: i === 0 });
		const words = h("span", {}, h("strong", {}, title), h("span", { class: "soft" }, purpose));
		return h("li", {}, h("label", { class: "choice" }, input, words));
	});
	const back = button("Go back", () => dialog.close(""));
	const take = button("Download", () => dialog.close(chosen()), "main");
	const dialog = titledDialog(`Download ${name}`, h("ul", { class: "plain-list" }, choices), back, take);
	const chosen = () => /** @type {HTMLInputElement} */ (dialog.querySelector("input:checked")).value;
	const format = await modal(dialog, signal);
	if (format) await download(`/models/${encodeURIComponent(model)}/export?format=${format}`, `${name}-${format}.zip`);
}
