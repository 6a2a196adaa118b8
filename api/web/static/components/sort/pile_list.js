// The piles, and the place where a folder becomes one.

import { announce, button, confirmed, h, replace, unseen } from "../../lib/dom.js";
import { imagesOf } from "../../lib/files/dropped_files.js";
import { attempt, noImagesBox, showProblem } from "../../lib/problem.js";
import { call } from "../../lib/service/http.js";
import { closePile } from "../../lib/sorting/pile.js";
import { count, size, when } from "../../lib/words.js";
import { codeFor, curl, python } from "../code.js";
import { acceptDrops, dropZone, onPhone } from "../dropzone.js";
import { pagedList } from "../pager.js";
import { stepList } from "../step_list.js";
import { modelSelect, STOCK } from "../try/model_select.js";
import { pileOf } from "./open_pile.js";

const STEPS = [
	onPhone
		? ["Add", "Choose photos. The service keeps small copies of them, and sorts them by class."]
		: ["Drop", "Add a folder of photos. The service keeps small copies of them, and sorts them by class."],
	[
		"Answer",
		"Name groups that look alike, with one key each. Your answers are kept at once, and change the sort at once.",
	],
	["Make a model", "The labelled photos train a model. It sorts this pile, and the next photos."],
];

/** Return how long ago that was: "yesterday". @param {string} time */
export function ago(time) {
	const seconds = (Date.parse(time) - Date.now()) / 1000;
	const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
	if (seconds > -60) return "just now";
	if (seconds > -3600) return words.format(Math.round(seconds / 60), "minute");
	const days = Math.round((new Date(time).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 86_400_000);
	if (!days) return words.format(Math.round(seconds / 3600), "hour");
	return days > -30 ? words.format(days, "day") : when(time);
}

/** Return what the service keeps of a pile, and until when. @param {Schemas["Pile"]} pile */
export function keptWords({ bytes, deleted_at: end, keeps_images: keeps }) {
	const day = end && new Date(end).toLocaleDateString(undefined, { dateStyle: "long" });
	const what = keeps ? "" : ", without copies of the photos";
	return `${size(bytes)} on this service${what}${day ? `, kept until ${day}, and longer if you use it` : ""}.`;
}

/** Delete the pile if the person confirms. Returns whether it is gone. @param {Schemas["Pile"]} pile @param {AbortSignal} signal */
export async function deletePile({ id, name, counts, bytes }, signal) {
	const question = `Delete the pile “${name}”? Its ${count(counts.images, "photo")} (${size(bytes)}) and ${count(counts.labelled, "label")} on this service are deleted. Your files and models stay.`;
	if (!(await confirmed(question, "Delete", signal))) return false;
	await call(`/piles/${encodeURIComponent(id)}`, { method: "DELETE", signal });
	closePile(id);
	return true;
}

/** Create the view. `model` is the reference of the model for a new pile. @param {{ model?: string, signal: AbortSignal }} options */
export function pileList({ model, signal }) {
	const trouble = h("div", {});
	const failed = (error) => showProblem(trouble, error);
	const models = modelSelect({ choose: () => {}, failed, signal });
	const state = h("p", { class: "soft", role: "status" });
	const bar = h("progress", { "aria-label": "Photos looked at" });
	/** @type {AbortController | null} */
	let taking = null;
	const stop = button("Stop", () => taking?.abort());
	const looking = h("div", { class: "card", hidden: true }, state, bar, h("div", { class: "row" }, stop));
	const zone = dropZone({
		title: onPhone ? "Add photos" : "Drop a folder here",
		hint: "The service keeps small copies, so that you can go on another day, and in another browser. Delete them whenever you like.",
		folders: true,
		small: true,
		add: take,
		drops: false,
	});

	/** @param {Promise<DroppedFile[]>} items */
	async function take(items) {
		if (taking) return;
		const mine = new AbortController();
		taking = mine;
		await attempt(trouble, async () => {
			const images = imagesOf(await items);
			if (!images.length) return replace(trouble, noImagesBox());
			looking.hidden = false;
			const pile = await pileOf(images, models.id(), {
				progress: (done) => {
					state.textContent = `Looking for photos that the service has: ${done.toLocaleString("en")} of ${images.length.toLocaleString("en")}`;
					bar.value = done / images.length;
				},
				signal: AbortSignal.any([mine.signal, signal]),
			});
			if (pile) location.hash = `#/sort/${pile.id}`;
		});
		taking = null;
		looking.hidden = true;
	}

	/** @param {Schemas["Pile"]} pile */
	function item(pile) {
		const { id, name, counts, used_at: used } = pile;
		const link = `#/sort/${encodeURIComponent(id)}`;
		const hidden = () => unseen(` ${name}`);
		const wrong = h("div", {});
		async function remove(event) {
			const row = event.target.closest("li");
			await attempt(wrong, async () => {
				if (!(await deletePile(pile, signal))) return;
				const next = row.nextElementSibling ?? row.previousElementSibling;
				row.remove();
				(next?.querySelector("a") ?? zone.querySelector("button"))?.focus();
				announce(`${name} deleted.`);
			});
		}
		return h(
			"div",
			{ class: "pile" },
			h("h2", {}, h("a", { href: link }, name)),
			h("p", {}, `${count(counts.images, "photo")}, ${counts.labelled.toLocaleString("en")} labelled, ${ago(used)}`),
			h("p", { class: "soft" }, keptWords(pile)),
			h(
				"div",
				{ class: "row" },
				h("a", { class: "button main", href: link }, "Continue", hidden()),
				button(["Delete", hidden()], remove),
			),
			wrong,
		);
	}
	const steps = stepList(STEPS);
	models.load(model ?? STOCK).catch(failed);
	const element = h(
		"section",
		{ class: "sort" },
		h(
			"div",
			{ class: "two" },
			h("div", { class: "side" }, h("h1", {}, "Sort"), h("div", { class: "card panel" }, models.element, zone)),
			h(
				"div",
				{ class: "sorted" },
				trouble,
				looking,
				pagedList({ path: "/piles", signal, item, empty: steps }),
				codeFor({
					what: "sort photos",
					curl: () => curl("/piles?limit=20"),
					python: () =>
						python(['pile = client.piles.create("photos")', "for place in pile.sort().images:", "    print(place)"]),
				}),
			),
		),
	);
	acceptDrops(element, take);
	return element;
}
