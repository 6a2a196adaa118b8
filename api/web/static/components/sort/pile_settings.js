// Settings of a pile: model, class names, limit and name.

import { button, debounce, field, h } from "../../lib/dom.js";
import { percent } from "../../lib/words.js";
import { chipField } from "../try/chips.js";
import { modelSelect, STOCK } from "../try/model_select.js";
import { askName } from "./name_dialog.js";
import { deletePile } from "./pile_list.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

export class PileSettings {
	/** Whether typed class names are still to be sent. */
	isRenaming = false;
	/** Class names, as in the field. @type {ClassName[]} */
	#names = [];
	/** Whether the list of models is there. */
	#hasModels = false;

	/** `attempted` does something and shows its error; `changed` is called when class names were typed or sent.
	 *
	 *  @param {OpenPile} pile
	 *  @param {{ attempted: (act: () => Promise<unknown>) => Promise<unknown>, failed: (error: any) => void,
	 *            changed: () => void, signal: AbortSignal }} options */
	constructor(pile, { attempted, failed, changed, signal }) {
		this.pile = pile;
		this.signal = signal;
		this.attempted = attempted;
		this.changed = changed;
		this.models = modelSelect({ choose: (model) => this.#choose(model), failed, signal });
		this.chips = chipField(this.#names, () => this.#renamed());
		this.limit = limitField(pile);
		this.buttons = h(
			"div",
			{ class: "row" },
			h("a", { class: "button quiet small", href: "#/sort" }, "All piles"),
			button("Rename", () => this.#rename(), "quiet small"),
			button("Delete", () => this.#remove(), "quiet small"),
		);
	}

	async load() {
		await this.models.load(this.pile.state?.model);
		this.#hasModels = true;
	}

	/** The chosen model, if it is one of the person's own. */
	get ownModel() {
		const model = this.models.current();
		return model?.job_id && !model.preview ? model : null;
	}

	/** Show the names of the pile in the field, with the prompts that were typed here. */
	refresh() {
		const { names } = this.pile;
		const prompts = new Map(this.#names.map((entry) => [entry.name, entry.prompts]));
		const isSame = names.length === prompts.size && names.every((name) => prompts.has(name));
		if (!isSame && !this.isRenaming) this.chips.set(names.map((name) => ({ name, prompts: prompts.get(name) ?? [] })));
		this.chips.kinds(new Set(this.models.current()?.trained_classes ?? []));
		this.limit.refresh();
	}

	/** Sort with another model. Class names that a person typed stay. @param {string} model */
	#choose(model) {
		const { state, sort } = this.pile;
		if (!this.#hasModels && model !== state?.model) return; // the reference of the pile has this id
		if (!state || model === state.model) return;
		const trained = model === STOCK ? [] : (this.models.current()?.trained_classes ?? []);
		const last = (sort?.class_names ?? []).filter(({ kind }) => kind === "trained").map(({ name }) => name);
		const before = new Set([...last, ...trained].map((name) => name.toLowerCase()));
		const typed = this.#names.filter(({ name }) => !before.has(name.toLowerCase()));
		const names = typed.length ? [...trained, ...typed.map(asSent)] : null; // null for the model's
		return this.attempted(() => this.pile.change({ model, class_names: names }));
	}

	#renamed() {
		this.isRenaming = true;
		this.changed();
		this.#sendNames();
	}

	#sendNames = debounce(400, async () => {
		await this.attempted(() => this.pile.change({ class_names: this.#names.map(asSent) }));
		this.isRenaming = false;
		this.changed();
	});

	async #rename() {
		const name = await askName("Name of the pile", {
			value: this.pile.state?.name,
			yes: "Rename",
			signal: this.signal,
		});
		if (name) await this.attempted(() => this.pile.change({ name }));
	}

	#remove() {
		return this.attempted(async () => {
			if (this.pile.state && (await deletePile(this.pile.state, this.signal))) location.hash = "#/sort";
		});
	}
}

/** Create the field of the probability below which a photo is unsure. @param {OpenPile} pile */
function limitField(pile) {
	const value = h("span", { class: "value", "aria-hidden": "true" });
	const input = h("input", { type: "range", min: "0", max: "1", step: "0.01", oninput: set });
	input.value = String(pile.threshold);
	const element = field(["Unsure below ", value], input);
	element.classList.add("limit");
	function set() {
		pile.threshold = Number(input.value);
		pile.changed();
	}
	function refresh() {
		value.textContent = percent(pile.threshold);
		input.setAttribute("aria-valuetext", value.textContent);
		element.hidden = !pile.names.length;
	}
	return { element, refresh };
}

/** @param {ClassName} entry */
const asSent = (entry) => (entry.prompts.length ? entry : entry.name);
