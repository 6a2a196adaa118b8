// More training or test images for a model, which is then trained again.

import { button, h, removeButton, replace } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { problemBox, showProblem } from "../../lib/problem.js";
import { upload } from "../../lib/service/http.js";
import { pictured } from "../../lib/training/image_check.js";
import { Shots } from "../../lib/training/training_form.js";
import { count } from "../../lib/words.js";
import { dropZone, picker } from "../dropzone.js";
import { whenSeen } from "../when_seen.js";

/** @import { Shot, ShotClass } from "../../lib/training/training_form.js" */

const TEXTS = {
	test: ["Add test images", "Test images evaluate the model and don't train it. The stored images are used again."],
	train: ["Add images", "They are trained together with the stored images."],
};

/** Create the form. @param {Job} job @param {string[]} classes @param {"test" | "train"} split */
export function moreImages(job, classes, split) {
	const shots = new Shots();
	for (const name of classes) shots.addClass(name);
	const [title, hint] = TEXTS[split];
	const trouble = h("div", {});
	const rows = h("ul", { class: "more-images" });
	const start = button("Train again", begin, "main");
	const status = h("p", { class: "soft", role: "status" });
	const key = newKey();

	/** @param {Promise<DroppedFile[]>} items @param {ShotClass | null} target */
	async function take(items, target) {
		replace(trouble);
		try {
			const files = await items;
			if (!(await shots.add(files, target)))
				replace(
					trouble,
					problemBox("No images found. Supported formats: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC."),
				);
		} catch (error) {
			showProblem(trouble, error);
		}
	}
	function draw() {
		for (const image of shots.images) image.split = split;
		replace(
			rows,
			shots.classes.map((entry) =>
				h(
					"li",
					{},
					h(
						"span",
						{},
						h("strong", {}, entry.name || "Images without a class folder"),
						" ",
						h("span", { class: "soft" }, count(entry.images.length, "image")),
					),
					h(
						"span",
						{ class: "row" },
						entry.images.map((image) => thumb(image)),
						entry.name &&
							picker(`Add to ${entry.name}`, { multiple: true, accept: "image/*" }, (items) => take(items, entry)),
					),
				),
			),
		);
		const nameless = shots.classes.some((entry) => !entry.name && entry.images.length);
		start.disabled = !shots.images.length || shots.bad.length > 0 || nameless;
		status.textContent = shots.bad.length
			? `Remove the ${count(shots.bad.length, "image")} that can't be read.`
			: nameless
				? "Put the images into class folders, or add them to a class."
				: "";
	}
	/** @param {Shot} image */
	function thumb(image) {
		const blank = h("span", { class: "blank" }, image.name);
		const picture = () => h("img", { src: image.url, alt: image.name });
		const shown = image.url ? picture() : blank;
		/** Ask the service for the thumbnail of a format that this browser can't show. */
		async function ask() {
			await pictured(image);
			if (image.url) blank.replaceWith(picture());
		}
		if (!image.url) whenSeen(blank, ask);
		return h(
			"span",
			{ class: `thumb ${image.problem?.level ?? ""}`, title: image.problem?.detail },
			shown,
			removeButton(image.name, () => shots.remove(image)),
		);
	}
	async function begin() {
		start.disabled = true;
		const { form } = shots.form({ name: "", config: {} });
		try {
			const headers = { "Idempotency-Key": key(shots.fingerprint([])) };
			const onprogress = (fraction) => (status.textContent = fraction < 1 ? "Uploading images …" : "Checking images …");
			const created = await upload(`/models/${encodeURIComponent(job.model_id ?? "")}/extend`, form, {
				headers,
				onprogress,
			});
			location.hash = `#/jobs/${encodeURIComponent(created.id)}`;
		} catch (error) {
			showProblem(trouble, error);
			draw();
		}
	}
	shots.addEventListener("change", draw);
	draw();
	return h(
		"div",
		{ class: "more" },
		h("h3", {}, title),
		h("p", { class: "soft" }, hint),
		dropZone({
			title: "Drop class folders or a zip here",
			small: true,
			folders: true,
			add: (items) => take(items, null),
		}),
		rows,
		trouble,
		h("div", { class: "go" }, start, status),
	);
}
