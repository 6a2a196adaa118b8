// Train view: add images, see the findings, start a job.

import { hasCamera } from "../components/camera.js";
import { dropZone, onPhone } from "../components/dropzone.js";
import { imageFindings } from "../components/findings.js";
import { folderTable } from "../components/folder_table.js";
import { sampleButton } from "../components/sample.js";
import { settingsPanel } from "../components/settings_panel.js";
import { stepList } from "../components/step_list.js";
import { classCards } from "../components/train/class_cards.js";
import { trainingPrograms } from "../components/train/programs.js";
import { startCard } from "../components/train/start_card.js";
import { STOCK } from "../components/try/model_select.js";
import { announce, button, confirmed, h, oncePerFrame, replace } from "../lib/dom.js";
import { pasted } from "../lib/files/dropped_files.js";
import { attempt, noImagesBox } from "../lib/problem.js";
import { requestJson } from "../lib/service/http.js";
import { draft } from "../lib/training/training_draft.js";
import { count } from "../lib/words.js";

/** @import { ShotClass } from "../lib/training/training_form.js" */

const STEPS = [
	["Add images", "One folder of images per class. Unusable images are marked before training starts."],
	["Train", "Training takes seconds to minutes. You can close this page meanwhile."],
	["Try", "Drop new images and type any class names, trained or new."],
];
const HINT = onPhone
	? "4 to 16 photos per class work well."
	: "One folder per class. The folder name becomes the class name. 4 to 16 images per class work well. You can also paste images.";

/** @param {{ signal: AbortSignal }} options */
export function trainView({ signal }) {
	const { shots, settings } = draft;
	const dropTrouble = h("div", {}); // visible without classes, unlike `next`
	const focusZone = () => zone.querySelector("button")?.focus();
	const cards = classCards(shots, { take, emptied: focusZone, signal });
	const zone = dropZone({
		title: onPhone ? "Add photos" : "Drop folders, images or a zip here",
		hint: HINT,
		folders: true,
		add: (items) => take(items, null),
		record: hasCamera ? cards.record : null,
	});
	const findings = imageFindings(signal);
	const start = startCard({ stopCheck: findings.stop, showFault: cards.showFault, signal });
	const pile = pileOffer(dropTrouble, signal);
	const sample = sampleButton(signal);
	const steps = stepList(STEPS);
	const folders = folderTable(shots);
	const panel = settingsPanel(settings, shots, signal);
	const addClass = button("Add a class", () => shots.addClass());
	const clear = button("Remove all", clearAll);
	const code = trainingPrograms();
	const next = h("div", { class: "next" }, addClass, clear, panel.element, findings.element, code);
	const submitted = h("p", { class: "running", role: "status", hidden: true });

	/** @param {DroppedFile[] | Promise<DroppedFile[]>} items @param {ShotClass | null} target */
	function take(items, target) {
		draft.failure = null;
		start.clear();
		return attempt(dropTrouble, async () => {
			const added = await shots.add(await items, target);
			announce(`${count(added, "image")} added.`);
			if (!added) replace(dropTrouble, noImagesBox());
		});
	}
	/** Add pasted images to the class that has the focus, else to the last one. */
	function paste(event) {
		const items = pasted(event);
		if (!items.length) return; // pasted text goes to its field
		event.preventDefault();
		take(items, cards.focused() ?? shots.classes.at(-1) ?? null);
	}
	async function clearAll() {
		if (!(await confirmed("Remove all images from this page? Your files stay where they are.", "Remove all"))) return;
		shots.clear();
		focusZone();
	}
	function draw() {
		cards.refresh();
		const hasClasses = shots.classes.length > 0;
		zone.classList.toggle("slim", hasClasses);
		steps.hidden = sample.hidden = hasClasses;
		next.hidden = start.element.hidden = !hasClasses;
		folders.refresh();
		panel.refresh();
		pile.refresh();
		start.refresh();
	}
	document.addEventListener("paste", paste, { signal });
	shots.addEventListener("change", oncePerFrame(draw), { signal });
	shots.addEventListener("change", findings.imagesChanged, { signal });
	/** Say where the images went, if the view was left and opened again during the upload. @param {Event} event */
	function showSubmitted(event) {
		panel.fill();
		showJob(submitted, "Training job submitted: ", /** @type {CustomEvent<Job>} */ (event).detail);
	}
	draft.addEventListener("submitted", showSubmitted, { signal });
	draw();
	findings.imagesChanged();
	const lede = "Add a few images per class. Training takes minutes, and the model still accepts any class name.";
	return h(
		"section",
		{ class: "train", onfocusout: findings.check },
		h("h1", {}, "Train a model on your images"),
		h("p", { class: "lede" }, lede),
		[runningJob(signal), submitted, zone, dropTrouble, pile.element, sample, steps],
		[folders.element, cards.element, next, start.element],
	);
}

/** Create a line that offers to group loose photos in Sort. @param {HTMLElement} trouble @param {AbortSignal} signal */
function pileOffer(trouble, signal) {
	const { shots } = draft;
	const words = h("span", {});
	const group = () =>
		attempt(trouble, async () => {
			const { pileOf } = await import("../components/sort/open_pile.js");
			const { images } = shots;
			const files = images.map(({ path, file, name }) => ({ path: path ?? [name], file, name }));
			const made = await pileOf(files, STOCK, { progress: () => {}, signal });
			if (!made) return;
			made.grouping = true;
			shots.clear(images);
			location.hash = `#/sort/${made.id}`;
		});
	const element = h("p", { class: "running", hidden: true }, words, " ", button("Group them", group, "main small"));
	function refresh() {
		element.hidden = !shots.pile || draft.sent !== null;
		words.textContent = shots.pile?.name
			? `These photos are in one folder, “${shots.pile.name}”. If it has several kinds of photos:`
			: "These photos are not in folders.";
	}
	return { element, refresh };
}

/** Create a line that links to the running job, so that a reload doesn't lose it. @param {AbortSignal} signal */
function runningJob(signal) {
	const line = h("p", { class: "running", hidden: true });
	requestJson("/jobs?status=running&limit=1", { signal })
		.then(({ data: [job] }) => job && showJob(line, "Training now: ", job))
		.catch(() => {}); // optional line: errors show elsewhere
	return line;
}

/** @param {HTMLElement} line @param {string} words @param {Job} job */
function showJob(line, words, job) {
	line.hidden = false;
	replace(line, words, h("a", { href: `#/jobs/${encodeURIComponent(job.id)}` }, job.name ?? "unnamed job"));
}
