// Card above the groups: how many photos are labelled, how good the sort is, what to do next, and the result as files.

import { button, focusedIn, h, replace } from "../../lib/dom.js";
import { problemBox } from "../../lib/problem.js";
import { saveBlob } from "../../lib/service/http.js";
import { sortedFiles, zipped } from "../../lib/sorting/zip.js";
import { count, percent } from "../../lib/words.js";

const NO_ORIGINALS = "The zip needs your files. Drop the folder again to get it, or run: clipcite sort FOLDER";

const NO_ROOM =
	" This device has no room to keep them until then: leave this page open, or delete other files and give one more answer.";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

/** Create the card. `failed` gets errors, `hint` a sentence on what to do.
 *
 *  @param {OpenPile} pile
 *  @param {{ askMe: () => void, groupThem: () => void, check: () => void, failed: (error: any) => void,
 *            signal: AbortSignal }} acts */
export function summaryCard(pile, { askMe, groupThem, check, failed, signal }) {
	const tally = h("p", { class: "tally" });
	const sentence = h("p", {});
	const state = h("p", { class: "soft", role: "status" });
	const bar = h("progress", { "aria-label": "Progress" });
	const halt = button("Stop", () => pile.stop());
	const goOn = button("Go on", () => pile.goOn(), "main");
	const next = button("Ask me about 10", askMe, "main");
	const group = button("Group them", groupThem);
	const test = button("Check with 20", check);
	const zip = button("Download sorted zip", saveZip);
	const csv = button("Save as CSV", () => pile.csv().then((table) => saveBlob(table, `${nameOf()}.csv`), failed));
	const unread = h("div", {});
	const element = h(
		"div",
		{ class: "card sum" },
		tally,
		sentence,
		state,
		bar,
		h("div", { class: "row" }, halt, goOn, next, group, test, zip, csv),
		unread,
	);
	const nameOf = () => pile.state?.name ?? "sorted";

	/** Focus the button for more labels, and show the card: a closing dialog gives back the focus without scrolling. */
	function focus() {
		[next, group].find(({ hidden }) => !hidden)?.focus();
		element.scrollIntoView({ block: "nearest" });
	}
	async function saveZip() {
		const files = sortedFiles(pile);
		if (files.length < pile.photos.length) return failed(NO_ORIGINALS);
		zip.disabled = true;
		try {
			const packed = await zipped(
				files,
				(done) => (zip.textContent = `Packing ${percent(done / files.length)}`),
				signal,
			);
			saveBlob(packed, `${nameOf()}.zip`);
		} catch (error) {
			failed(error);
		} finally {
			zip.disabled = false;
			zip.textContent = "Download sorted zip";
		}
	}

	let shownUnread = pile.unread;
	function refresh() {
		const { counts } = pile.state ?? {};
		const images = counts?.images ?? 0;
		const { sent, total } = pile.upload;
		const isOpen = pile.waiting.length > 0;
		element.hidden = !images && !isOpen && !pile.unread.length;
		tally.textContent = counts ? `${count(images, "photo")}. ${pile.tally}` : "";
		const isSorted = Boolean(pile.sort) && !pile.isUploading;
		tell(sentence, (isSorted && pile.sort?.sentence) || "");
		tell(
			state,
			isOpen
				? `${pile.isUploading ? "" : "Stopped: "}${sent.toLocaleString("en")} of ${count(total, "photo")} sent`
				: pile.read !== null
					? `Reading the photos with this model: ${pile.read.toLocaleString("en")} of ${images.toLocaleString("en")}`
					: pile.unsent > 0 && pile.problem
						? `${count(pile.unsent, "answer")} will be sent as soon as the service is there.${pile.isFull ? NO_ROOM : ""}`
						: "",
		);
		bar.hidden = !isOpen && pile.read === null;
		bar.max = (isOpen ? total : images) || 1;
		bar.value = isOpen ? sent : (pile.read ?? 0);
		halt.hidden = !pile.isUploading;
		goOn.hidden = pile.isUploading || !isOpen;
		const hasNames = pile.names.length > 0;
		const sorted = pile.sort?.pile.counts; // as old as the sentence
		const isDone = sorted?.labelled === sorted?.images;
		next.hidden = !isSorted || !hasNames || isDone;
		test.hidden = !isSorted || !hasNames || !pile.sort?.unchecked;
		group.hidden = !isSorted || isDone;
		group.className = hasNames ? "quiet" : "main";
		zip.hidden = csv.hidden = !isSorted || !hasNames;
		if (shownUnread !== pile.unread || pile.unread.length !== unread.childElementCount) {
			shownUnread = pile.unread;
			const lines = pile.unread.map(({ file, detail }) => `${file}: ${detail}`);
			replace(unread, lines.length > 0 && problemBox(`${count(lines.length, "file")} can't be read.`, lines));
		}
		if (focusedIn(element)?.hidden) [goOn, halt, next, group, test, zip].find(({ hidden }) => !hidden)?.focus();
	}
	return { element, refresh, focus };
}

/** @param {HTMLElement} element @param {string} words */
function tell(element, words) {
	if (element.textContent !== words) element.textContent = words;
	element.hidden = !words;
}
