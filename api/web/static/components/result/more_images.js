// More training or test images for a model, which is then trained again.

import { announce, arrange, button, h, replace } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { attempt, noImagesBox, showProblem } from "../../lib/problem.js";
import { upload } from "../../lib/service/http.js";
import { Shots } from "../../lib/training/training_form.js";
import { count } from "../../lib/words.js";
import { dropZone, picker } from "../dropzone.js";
import { folderTable } from "../folder_table.js";
import { thumbnails } from "../thumbnails.js";

/** @import { ShotClass } from "../../lib/training/training_form.js" */

const TEXTS = {
	test: ["Add test images", "Test images evaluate the model and don't train it. The stored images are used again."],
	train: ["Add images", "They are trained together with the stored images."],
};

/** Create the form. @param {Job} job @param {string[]} names @param {"test" | "train"} split @param {AbortSignal} signal */
export function moreImages(job, names, split, signal) {
	const shots = new Shots();
	for (const name of names) shots.addClass(name);
	/** @type {Map<ShotClass, ReturnType<typeof newRow>>} */
	const classes = new Map();
	const [title, hint] = TEXTS[split];
	const trouble = h("div", {});
	const rows = h("ul", { class: "more-images" });
	const folders = folderTable(shots);
	const start = button("Train again", begin, "main");
	const status = h("p", { class: "soft", role: "status" });
	const key = newKey();
	const zone = dropZone({
		title: "Drop class folders or a zip here",
		small: true,
		folders: true,
		add: (items) => take(items, null),
	});

	/** @param {Promise<DroppedFile[]>} items @param {ShotClass | null} target */
	function take(items, target) {
		return attempt(trouble, async () => {
			if (!(await shots.add(await items, target))) replace(trouble, noImagesBox());
		});
	}
	function draw() {
		for (const image of shots.images) image.split = split;
		arrange(
			rows,
			shots.classes.map((entry) => {
				const row = classes.get(entry) ?? newRow(entry);
				classes.set(entry, row);
				row.refresh();
				return row.element;
			}),
		);
		const nameless = shots.classes.some((entry) => !entry.name && entry.images.length);
		folders.refresh();
		start.disabled = !shots.images.length || shots.bad.length > 0 || nameless;
		status.textContent = shots.bad.length
			? `Remove the ${count(shots.bad.length, "image")} that can't be read.`
			: nameless
				? "Put the images into class folders, or add them to a class."
				: "";
	}
	/** @param {ShotClass} entry */
	function newRow(entry) {
		const { name } = entry;
		const tally = h("span", { class: "soft" });
		const add = h(
			"span",
			{ class: "row" },
			name && picker(`Add to ${name}`, { multiple: true, accept: "image/*" }, (items) => take(items, entry)),
		);
		const grid = thumbnails((image) => {
			shots.remove(image);
			if (!entry.images.length) (add.querySelector("button") ?? zone.querySelector("button"))?.focus();
		});
		const title = h("strong", {}, name || "Images without a class folder");
		function refresh() {
			tally.textContent = count(entry.images.length, "image");
			grid.show(entry.images);
		}
		return { element: h("li", {}, h("span", {}, title, " ", tally), add, grid.element), refresh };
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
			if (signal.aborted) announce("Training job submitted.");
			else location.hash = `#/jobs/${encodeURIComponent(created.id)}`;
		} catch (error) {
			showProblem(trouble, error);
			draw();
		}
	}
	shots.addEventListener("change", draw);
	signal.addEventListener("abort", () => shots.clear());
	draw();
	return h(
		"div",
		{ class: "more" },
		h("h3", {}, title),
		h("p", { class: "soft" }, hint),
		zone,
		folders.element,
		rows,
		trouble,
		h("div", { class: "go" }, start, status),
	);
}
