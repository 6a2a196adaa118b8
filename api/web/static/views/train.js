// Train view: add images, see the findings, start a job.

import { hasCamera } from "../components/camera.js";
import { classCard } from "../components/class_card.js";
import { codeFor, curl, javascript, literal, python } from "../components/code.js";
import { dropZone, onPhone } from "../components/dropzone.js";
import { checkWithService, stopCheck } from "../components/findings.js";
import { folderTable } from "../components/folder_table.js";
import { sampleButton } from "../components/sample.js";
import { settingsPanel } from "../components/settings_panel.js";
import { STOCK } from "../components/try/model_select.js";
import { announce, button, confirmed, debounce, h, newId, oncePerFrame, replace } from "../lib/dom.js";
import { pasted } from "../lib/files/dropped_files.js";
import { noImagesBox, problemBox, showProblem } from "../lib/problem.js";
import { requestJson } from "../lib/service/http.js";
import { draft } from "../lib/training/training_draft.js";
import { count, size } from "../lib/words.js";

/** @import { ShotClass } from "../lib/training/training_form.js" */

const STEPS = [
	["Add images", "One folder of images per class. Unusable images are marked before training starts."],
	["Train", "Training takes seconds to minutes. You can close this page meanwhile."],
	["Try", "Drop new images and type any class names, trained or new."],
];

/** @param {{ signal: AbortSignal }} options */
export function trainView({ signal }) {
	const { shots, settings } = draft;
	const box = h("div", { class: "classes" });
	const next = h("div", {});
	const dropTrouble = h("div", {}); // visible without classes, unlike `next`
	const trouble = h("div", {});
	/** @type {Map<ShotClass, ReturnType<typeof classCard>>} */
	const cards = new Map();

	const zone = dropZone({
		title: onPhone ? "Add photos" : "Drop folders, images or a zip here",
		hint: onPhone
			? "4 to 16 photos per class work well."
			: "One folder per class. The folder name becomes the class name. 4 to 16 images per class work well. You can also paste images.",
		folders: true,
		add: (items) => take(items, null),
		record: hasCamera ? recordClass : null,
	});

	/** Scroll to the first image that can't be read. */
	function showFault() {
		const fault = box.querySelector(".thumbs .bad");
		fault?.scrollIntoView({ block: "center" });
		fault?.querySelector("button")?.focus({ preventScroll: true });
	}

	/** Record images of a new class. */
	function recordClass() {
		const entry = shots.addClass();
		draw();
		cards.get(entry)?.record();
	}

	/** @param {DroppedFile[] | Promise<DroppedFile[]>} items @param {ShotClass | null} target */
	async function take(items, target) {
		draft.failure = null;
		replace(trouble);
		replace(dropTrouble);
		try {
			const added = await shots.add(await items, target);
			announce(`${count(added, "image")} added.`);
			if (!added) replace(dropTrouble, noImagesBox());
		} catch (error) {
			showProblem(dropTrouble, error);
		}
	}

	/** Add pasted images to the class that has the focus, else to the last one. */
	function paste(event) {
		const items = pasted(event);
		if (!items.length) return; // pasted text goes to its field
		event.preventDefault();
		const focused = shots.classes.find((entry) => cards.get(entry)?.element.contains(document.activeElement));
		take(items, focused ?? shots.classes.at(-1) ?? null);
	}
	document.addEventListener("paste", paste, { signal });

	const pileWords = h("span", {});
	const pile = h("p", { class: "running", hidden: true }, pileWords, " ", button("Group them", group, "main small"));
	/** Take the photos to Sort, which groups them. */
	async function group() {
		try {
			const { pileOf } = await import("../components/sort/open_pile.js");
			const { images } = shots;
			const files = images.map(({ path, file, name }) => ({ path: path ?? [name], file, name }));
			const made = await pileOf(files, STOCK, { progress: () => {}, signal });
			if (!made) return;
			made.grouping = true;
			shots.clear(images);
			location.hash = `#/sort/${made.id}`;
		} catch (error) {
			showProblem(dropTrouble, error);
		}
	}

	const submitted = h("p", { class: "running", role: "status", hidden: true });
	/** Say where the images went, if the view was left and opened again during the upload. @param {Job} job */
	function showSubmitted(job) {
		panel.fill();
		submitted.hidden = false;
		replace(
			submitted,
			"Training job submitted: ",
			h("a", { href: `#/jobs/${encodeURIComponent(job.id)}` }, job.name ?? "unnamed job"),
		);
	}

	const sample = sampleButton(signal);
	const steps = h(
		"ol",
		{ class: "steps" },
		STEPS.map(([name, text]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, text))),
	);
	const folders = folderTable(shots);
	const panel = settingsPanel(settings, shots, signal);
	const verdict = h("div", { class: "check" });
	const start = button("Start training", begin, "main big");
	const status = h("p", { class: "soft", id: newId("status") });
	start.setAttribute("aria-describedby", status.id);
	const faults = h(
		"div",
		{ class: "row", hidden: true },
		button("Show", showFault, "quiet small"),
		button("Leave them out", leaveOut, "quiet small"),
	);
	function leaveOut() {
		shots.clear(shots.bad);
		requestAnimationFrame(() => start.focus()); // after it was drawn, no longer disabled
	}
	const bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Upload progress" });
	const go = h("div", { class: "card go begin" }, trouble, start, status, faults, bar); // stays visible below any number of images
	const code = codeFor({ curl: asCurl, python: asPython, javascript: asJavascript });
	const addClass = button("Add a class", () => shots.addClass());
	const clear = button("Remove all", clearAll);

	async function clearAll() {
		if (await confirmed("Remove all images from this page? Your files stay where they are.", "Remove all")) {
			shots.clear();
			zone.querySelector("button")?.focus();
		}
	}

	/** Remove the class, and focus the next one. @param {ShotClass} entry */
	function removeClass(entry) {
		const at = shots.classes.indexOf(entry);
		shots.removeClass(entry);
		const next = cards.get(shots.classes[at] ?? shots.classes[at - 1]);
		(next?.element ?? zone).querySelector("button")?.focus();
	}

	const check = debounce(1200, () => draft.sent === null && checkWithService(shots, draft.config(), verdict, signal));
	let seen = "";
	/** Check again only after an image was added, removed or hashed, or for another base model, since each check uploads
	 *  all images. */
	function checkImages() {
		const now = JSON.stringify([settings.backbone, shots.images.map(({ id, hash }) => [id, hash])]);
		if (now === seen) return;
		seen = now;
		check();
	}
	function draw() {
		for (const [entry, card] of cards) {
			if (!shots.classes.includes(entry)) {
				card.remove();
				cards.delete(entry);
			}
		}
		for (const entry of shots.classes) {
			const add = (items) => take(items, entry);
			const card = cards.get(entry) ?? classCard(entry, shots, { add, removeClass: () => removeClass(entry), signal });
			if (!cards.has(entry)) box.append(card.element);
			cards.set(entry, card);
			card.refresh();
		}
		const hasClasses = shots.classes.length > 0;
		zone.classList.toggle("slim", hasClasses);
		steps.hidden = sample.hidden = hasClasses;
		next.hidden = go.hidden = !hasClasses;
		pile.hidden = !shots.pile || draft.sent !== null;
		pileWords.textContent = shots.pile?.name
			? `These photos are in one folder, “${shots.pile.name}”. If it has several kinds of photos:`
			: "These photos are not in folders.";
		folders.refresh();
		panel.refresh();
		drawSending();
	}
	/** @type {typeof draft.failure} */
	let shownFailure = null;
	function drawSending() {
		const sending = draft.sent !== null;
		start.disabled = sending || Boolean(shots.missing);
		start.setAttribute("aria-busy", String(sending));
		faults.hidden = sending || !shots.bad.length;
		bar.hidden = !sending;
		bar.value = draft.sent ?? 0;
		if (sending) status.textContent = (draft.sent ?? 0) < 1 ? "Uploading images …" : "Checking images …";
		else
			status.textContent =
				shots.missing ||
				`${count(shots.images.length, "image")} in ${count(shots.trained.length, "class", "classes")}, ${size(shots.bytes)}.`;
		if (draft.failure === shownFailure) return; // drawn again, an alert would be read again
		shownFailure = draft.failure;
		if (shownFailure) replace(trouble, problemBox(shownFailure.error, shownFailure.details));
	}
	shots.addEventListener("change", oncePerFrame(draw), { signal });
	shots.addEventListener("change", checkImages, { signal });
	draft.addEventListener("progress", drawSending, { signal });
	draft.addEventListener("submitted", (event) => showSubmitted(/** @type {CustomEvent<Job>} */ (event).detail), {
		signal,
	});

	async function begin() {
		check.cancel();
		stopCheck();
		replace(trouble);
		const job = await draft.send();
		if (!job) return;
		if (signal.aborted) announce("Training job submitted.");
		else location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
	}

	const config = () => ({ ...draft.config(), ...shots.prompts() });
	const configured = () => Object.keys(config()).length > 0;
	function asCurl() {
		/** @type {[string, string][]} */
		const options = [["-F", "archive=@images.zip"]];
		if (configured()) options.push(["-F", `config=${JSON.stringify(config())}`]);
		if (settings.name.trim()) options.push(["-F", `name=${settings.name.trim()}`]);
		return `# images.zip contains one folder per class\n${curl("/adapt", options)}`;
	}
	function asJavascript() {
		const fields = {
			...(configured() && { config: config() }),
			...(settings.name.trim() && { name: settings.name.trim() }),
		};
		return javascript("/adapt", {
			method: "POST",
			fields,
			files: { archive: "images.zip" },
			lines: ["console.log(body.id, body.status);"],
		});
	}
	function asPython() {
		const name = settings.name.trim() ? `, name=${literal(settings.name.trim())}` : "";
		return python([
			configured() && `config = ${literal(config())}`,
			`job = client.adapt("images"${name}${configured() ? ", config=config" : ""})  # contains one folder per class`,
			"print(job.wait().model_id)",
		]);
	}

	replace(next, addClass, clear, panel.element, verdict, code);
	next.classList.add("next");
	draw();
	checkImages();
	return h(
		"section",
		{ class: "train", onfocusout: check },
		h("h1", {}, "Train a model on your images"),
		h(
			"p",
			{ class: "lede" },
			"Add a few images per class. Training takes minutes, and the model still accepts any class name.",
		),
		runningJob(signal),
		submitted,
		zone,
		dropTrouble,
		pile,
		sample,
		steps,
		folders.element,
		box,
		next,
		go,
	);
}

/** Create a line that links to the running job, so that a reload doesn't lose it. */
function runningJob(signal) {
	const line = h("p", { class: "running", hidden: true });
	requestJson("/jobs?status=running&limit=1", { signal })
		.then(({ data: [job] }) => {
			if (!job) return;
			line.hidden = false;
			replace(
				line,
				"Training now: ",
				h("a", { href: `#/jobs/${encodeURIComponent(job.id)}` }, job.name ?? "unnamed job"),
			);
		})
		.catch(() => {}); // optional line: errors show elsewhere
	return line;
}
