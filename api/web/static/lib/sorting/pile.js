// An open pile: its photos, their places in the sort, and the answers that are to be sent. It outlives its view, so that an
// upload and unsent answers go on.

import { debounce } from "../dom.js";
import { call, requestJson, upload } from "../service/http.js";
import { isPassing, patiently } from "../service/patiently.js";
import { count } from "../words.js";
import { restored } from "./answers.js";
import { labelOf, NONE } from "./groups.js";
import { forgetUnsent, keepUnsent, unsentOf } from "./unsent.js";

/** @typedef {DroppedFile & { name: string }} Original */

const POLL_MS = 3_000; // for answers of other people
const SORT_MS = 500; // after the last answer
const READY_MS = 1_000;
const PART_FILES = 16;
const PART_BYTES = 24_000_000;
const DEFAULT_THRESHOLD = 0.6;

/** @type {Map<string, OpenPile>} */
const piles = new Map();

/** Return the open pile with this id. `state` is what is known of it. @param {string} id @param {Schemas["Pile"] | null} [state] */
export function openPile(id, state = null) {
	const pile = piles.get(id) ?? new OpenPile(id);
	pile.state ??= state;
	piles.set(id, pile);
	return pile;
}

/** Close a pile that was deleted. @param {string} id */
export function closePile(id) {
	piles.get(id)?.stop();
	piles.delete(id);
	forgetUnsent(id);
}

export class OpenPile extends EventTarget {
	/** Last known state. @type {Schemas["Pile"] | null} */
	state = null;
	/** Last sort. @type {Schemas["PileSort"] | null} */
	sort = null;
	/** Number of photos that were read with the model, while not all are. @type {number | null} */
	read = null;
	/** By position. @type {Map<number, Photo>} */
	#photos = new Map();
	/** Photos below this probability are shown as unsure. */
	threshold = DEFAULT_THRESHOLD;
	/** Original files, by position: those that were dropped onto this page. @type {Map<number, File>} */
	originals = new Map();
	/** Files that can't be read. @type {{ file: string, detail: string }[]} */
	unread = [];
	/** Files that are still to be sent. @type {Original[]} */
	waiting = [];
	/** Number of files of this upload, and those that were sent. */
	upload = { total: 0, sent: 0 };
	/** Error of a request, and whether the request is tried again. @type {any} */
	problem = null;
	#isRetried = false;
	/** Whether the groups are asked for once the photos are there. */
	grouping = false;
	/** @type {PileAnswer[]} */
	#unsent = [];
	/** Whether this device has no room for the unsent answers, so that they end with the page. */
	isFull = false;
	/** Resolves once the answers that an earlier page could not send are here. @type {Promise<void>} */
	#restored;
	/** Answers that the photos being loaded may lack. @type {PileAnswer[]} */
	#given = [];
	/** @type {Promise<void> | null} */
	#sending = null;
	/** @type {Promise<void> | null} */
	#sorting = null;
	#isStale = false;
	#isChoosing = false;
	/** That photos and sort were loaded for. */
	#revision = -1;
	/** @type {AbortController | null} */
	#uploading = null;
	/** @type {Pick<Photo, "position" | "answer" | "not_classes">[][]} */
	#undo = [];
	/** Ends all requests once the pile is closed. */
	#end = new AbortController();

	/** @param {string} id */
	constructor(id) {
		super();
		this.id = id;
		/** @type {`/piles/${string}`} */
		this.path = `/piles/${encodeURIComponent(id)}`;
		this.#restored = this.#restore();
	}

	async #restore() {
		const { answers, keys } = await unsentOf(this.id);
		if (!answers.length) return;
		for (const answer of answers) this.#apply(answer);
		this.#unsent.unshift(...answers);
		this.#given.unshift(...answers);
		keepUnsent(this.id, this.#unsent, keys);
		this.changed();
	}

	get photos() {
		return [...this.#photos.values()];
	}

	/** Names of the classes: those of the last sort, and those that people gave since. A response may be older than an answer. */
	get names() {
		const sorted = (this.sort?.class_names ?? []).map(({ name }) => name);
		const given = this.#given.flatMap(({ said, class_name: name }) => (said === "class" && name) || []);
		return [...new Set([...sorted, ...(this.state?.class_names ?? []), ...given])];
	}

	get isUploading() {
		return this.#uploading !== null;
	}

	get isSorting() {
		return this.#sorting !== null || this.#isChoosing;
	}

	/** How many photos are labelled, in words. Once the sort is measured, its sentence says how many were drawn. */
	get tally() {
		const { labelled = 0, drawn = 0 } = this.state?.counts ?? {};
		if (!labelled) return "";
		const random = drawn && !this.sort?.measured ? `, ${drawn.toLocaleString("en")} of them drawn at random` : "";
		return `${count(labelled, "photo")} labelled${random}.`;
	}

	/** Number of answers that the service doesn't have yet. */
	get unsent() {
		return this.#unsent.length;
	}

	get canUndo() {
		return this.#undo.length > 0;
	}

	/** @param {number} position */
	photo(position) {
		return this.#photos.get(position);
	}

	/** @param {number[]} positions @returns {Photo[]} */
	photosOf(positions) {
		return positions.flatMap((position) => this.photo(position) ?? []);
	}

	changed() {
		this.dispatchEvent(new Event("change"));
	}

	/** Load the pile, and follow its changes while the page is visible, until the signal. @param {AbortSignal} signal */
	async watch(signal) {
		await this.#restored;
		if (this.#unsent.length) this.#send();
		await this.refresh();
		while (!signal.aborted && !this.#end.signal.aborted) {
			await new Promise((done) => setTimeout(done, POLL_MS));
			if (document.hidden || signal.aborted || this.#sending || this.#sorting || this.#uploading) continue;
			try {
				const headers = { "If-None-Match": `"${this.#revision}"` };
				const state = await requestJson(this.path, { headers, signal });
				if (state.revision !== this.#revision) await this.refresh();
			} catch (error) {
				if ([401, 404].includes(error.status)) this.#failed(error); // others: the next poll may succeed
			}
		}
	}

	/** Load photos and sort anew, once more if something changes meanwhile. */
	refresh() {
		this.#isStale = true;
		this.#sorting ??= this.#load().finally(() => {
			this.#sorting = null;
			this.changed();
		});
		return this.#sorting;
	}

	#refreshSoon = debounce(SORT_MS, () => this.refresh());

	async #load() {
		try {
			await this.#restored;
			while (this.#isStale && !this.#uploading) {
				this.#isStale = false;
				this.#given = [...this.#unsent];
				this.changed();
				const before = await this.#patiently(() => requestJson(this.path, { signal: this.#end.signal }));
				this.#revision = before.revision;
				this.#took(before);
				if (!before.counts.images) return;
				const [{ data }, sort] = await Promise.all([
					this.#patiently(() => requestJson(`${this.path}/images`, { signal: this.#end.signal })),
					this.#sorted(""),
				]);
				this.#isStale ||= sort.pile.revision !== before.revision;
				this.#takePhotos(data);
				this.#takeSort(sort);
			}
		} catch (error) {
			this.#failed(error);
		}
	}

	/** @param {Schemas["PileImage"][]} images */
	#takePhotos(images) {
		const before = this.#photos;
		this.#photos = new Map();
		for (const image of images) {
			const photo = before.get(image.position) ?? { place: null };
			const name = image.file.split("/").at(-1) ?? image.file;
			this.#photos.set(image.position, Object.assign(photo, image, { name, answer: image.answer ?? null }));
		}
		for (const answer of this.#given) this.#apply(answer);
	}

	/** @param {Schemas["PileSort"]} sort */
	#takeSort(sort) {
		this.sort = sort;
		this.read = null;
		for (const place of sort.images ?? []) {
			const photo = this.photo(place.position);
			if (photo) photo.place = place;
		}
		this.#took(sort.pile);
	}

	/** @param {Schemas["Pile"]} state */
	#took(state) {
		this.state = state;
		if (this.#isRetried) this.problem = null;
		this.changed();
	}

	/** Sort, and wait until the photos are read with the model. @param {string} query @returns {Promise<Schemas["PileSort"]>} */
	async #sorted(query) {
		for (;;) {
			const sort = await this.#patiently(() => requestJson(`${this.path}/sort?${query}`, { signal: this.#end.signal }));
			if (sort.ready) return sort;
			this.read = sort.done;
			this.#took(sort.pile);
			await new Promise((done) => setTimeout(done, READY_MS));
			this.#end.signal.throwIfAborted();
		}
	}

	/** Return a sort with what to ask next: `groups=30`, `ask=10` or `draw=20`. It has all answers. @param {string} query */
	async choose(query) {
		this.#isChoosing = true;
		this.changed();
		try {
			await this.settled();
			const sort = await this.#sorted(query);
			this.#takeSort(sort);
			return sort;
		} finally {
			this.#isChoosing = false;
			this.changed();
		}
	}

	/** Change name, model or class names. @param {Schemas["PilePatch"]} change */
	async change(change) {
		const state = await requestJson(this.path, { method: "PATCH", json: change, signal: this.#end.signal });
		this.#took(state);
		if ("model" in change || "class_names" in change) await this.refresh();
	}

	/** Retry while the service is restarting or busy, and say so. @template T @param {() => Promise<T>} act */
	#patiently(act) {
		return patiently(
			() =>
				act().catch((error) => {
					if (isPassing(error)) this.#failed(error, true);
					throw error;
				}),
			this.#end.signal,
		);
	}

	/** @param {any} error */
	#failed(error, isRetried = false) {
		if (error.name === "AbortError") return;
		this.problem = error;
		this.#isRetried = isRetried;
		this.changed();
	}

	/** Give answers. They count on the page at once, and are sent in their order. @param {PileAnswer[]} answers */
	answer(answers) {
		if (!answers.length) return;
		this.problem = null;
		const positions = [...new Set(answers.flatMap((answer) => answer.positions))];
		const before = positions.flatMap((position) => this.photo(position) ?? []);
		this.#undo.push(
			before.map(({ position, answer, not_classes: excluded }) => ({ position, answer, not_classes: excluded })),
		);
		this.#give(answers);
	}

	/** Take back the last answers. Returns their photos. */
	undo() {
		const before = this.#undo.pop();
		if (!before) return [];
		this.#give(restored(before));
		return this.photosOf(before.map(({ position }) => position));
	}

	/** @param {PileAnswer[]} answers */
	#give(answers) {
		for (const answer of answers) this.#apply(answer);
		this.#unsent.push(...answers);
		this.#given.push(...answers);
		this.#note();
		this.changed();
		this.#send();
	}

	/** Show the answer on the photos, until the service's list has it. @param {PileAnswer} answer */
	#apply({ positions, said, class_name: name = null, how }) {
		for (const position of positions) {
			const photo = this.photo(position);
			if (!photo || how === "member") continue;
			const label = labelOf(photo);
			const keepsLabel = said === "skip" || (said === "not_class" && label !== (name ?? NONE));
			if (said === "withdrawn") Object.assign(photo, { answer: null, not_classes: [] });
			else if (!label || !keepsLabel) photo.answer = { said, class_name: name, how, by: null, at: "" };
			if (said === "not_class" && !photo.not_classes?.includes(name))
				photo.not_classes = [...(photo.not_classes ?? []), name];
		}
	}

	/** Keep the unsent answers beyond this page. */
	async #note() {
		this.isFull = (await keepUnsent(this.id, this.#unsent)) === "full";
		if (this.isFull) this.changed();
	}

	/** Wait until the service has all answers. */
	async settled() {
		await this.#sending;
	}

	#send() {
		this.#sending ??= this.#sendAll().finally(() => {
			this.#sending = null;
			this.#refreshSoon();
		});
	}

	async #sendAll() {
		await this.#restored;
		while (this.#unsent.length) {
			const answers = [...this.#unsent];
			try {
				this.#took(
					await this.#patiently(() =>
						requestJson(`${this.path}/answers`, { method: "POST", json: { answers }, signal: this.#end.signal }),
					),
				);
			} catch (error) {
				if (error.name === "AbortError") return;
				this.#failed(error);
				if ([401, 507].includes(error.status)) return; // sent with the next answer, or after a reload: a key or room is missing
			}
			this.#unsent.splice(0, answers.length); // those that were refused, too: the problem says why
			this.#note();
		}
	}

	/** Add files, with the position of each that the pile has. The others are sent.
	 *
	 *  @param {Original[]} files @param {(number | null)[]} [positions] */
	add(files, positions = []) {
		for (const [i, file] of files.entries()) {
			const position = positions[i] ?? null;
			if (position === null) this.waiting.push(file);
			else this.originals.set(position, file.file);
		}
		this.upload = { total: this.waiting.length, sent: 0 };
		this.unread = [];
		this.changed();
		this.goOn();
	}

	stop() {
		this.#uploading?.abort();
		if (!piles.has(this.id)) this.#end.abort();
	}

	/** Send the waiting files, part by part. */
	async goOn() {
		if (this.#uploading || !this.waiting.length) return;
		const mine = new AbortController();
		this.#uploading = mine;
		this.problem = null;
		this.changed();
		try {
			while (this.waiting.length) await this.#sendPart(AbortSignal.any([mine.signal, this.#end.signal]));
			this.upload = { total: 0, sent: 0 };
		} catch (error) {
			this.#failed(error);
		} finally {
			this.#uploading = null;
			await this.refresh();
		}
	}

	/** @param {AbortSignal} signal */
	async #sendPart(signal) {
		const part = partOf(this.waiting);
		const form = new FormData();
		for (const { file, path } of part) form.append("images", file, path.join("/"));
		const answer = await this.#patiently(() =>
			upload(`${this.path}/images`, form, { signal }).catch((error) => {
				if (error.places) return { images: null, error };
				throw error;
			}),
		);
		if (!answer.images) {
			const gone = new Set(answer.error.places.map((place) => part[place]));
			for (const { path } of gone) this.unread.push({ file: path.join("/"), detail: answer.error.errors[0].detail });
			this.waiting = this.waiting.filter((file) => !gone.has(file));
			this.upload.sent += gone.size;
			return;
		}
		for (const [i, { file, position, error }] of answer.images.entries()) {
			if (typeof position === "number") this.originals.set(position, part[i].file);
			else this.unread.push({ file, detail: error?.detail ?? "" });
		}
		this.waiting.splice(0, part.length);
		this.upload.sent += part.length;
		this.#took(answer.pile);
	}

	/** Return the table of the sort. */
	async csv() {
		await this.settled();
		return (await call(`${this.path}/sort`, { headers: { Accept: "text/csv" } })).blob();
	}
}

/** Return the first files that make one request. @param {Original[]} files */
function partOf(files) {
	let bytes = 0;
	const end = files.slice(0, PART_FILES).findIndex(({ file }) => {
		bytes += file.size;
		return bytes > PART_BYTES;
	});
	return files.slice(0, end < 0 ? PART_FILES : Math.max(1, end));
}

addEventListener("beforeunload", (event) => {
	if ([...piles.values()].some((pile) => pile.isUploading)) event.preventDefault(); // the browser asks first
});
