// Card above the groups: how far the sorting is, what is likely wrong, and the result as files.

import { button, focusedIn, h } from "../../lib/dom.js";
import { saveBlob } from "../../lib/service/http.js";
import { judged, shareInterval } from "../../lib/sorting/check.js";
import { classOf, elseOf, isGuess, likelyWrong, unsureOf } from "../../lib/sorting/groups.js";
import { asCsv, sortedFiles } from "../../lib/sorting/output.js";
import { zipped } from "../../lib/sorting/zip.js";
import { count, percent } from "../../lib/words.js";
import { likely } from "../result/verdict.js";

export const ROUND = 10; // images to ask about
export const CHECKED = 20; // images of a check
const MIN_GROUP = 12; // images; the service makes no groups of fewer

/** @import { SortRequests } from "../../lib/sorting/requests.js" */
/** @import { Sorting } from "../../lib/sorting/sorting.js" */

/** Create the card. `failed` gets errors.
 *
 *  @param {Sorting} sorting
 *  @param {{ requests: SortRequests, failed: (error: any) => void, signal: AbortSignal }
 *          & Record<"askMe" | "groupThem" | "check" | "release" | "removeAll", () => void>} acts */
export function summaryCard(sorting, { requests, askMe, groupThem, check, release, removeAll, failed, signal }) {
	const tally = h("p", { class: "tally" });
	const wrong = h("p", {});
	const reason = h("p", { class: "soft" });
	const bar = h("progress", { "aria-label": "Sorted images" });
	const halt = button("Stop", () => requests.stopClassifying());
	const goOn = button("Go on", () => requests.classify(), "main");
	const next = button("", askMe, "main");
	const group = button("Group them", groupThem);
	const test = button("", check);
	const teach = button("Train with the checked photos, too", release);
	const zip = button("Download sorted zip", saveZip);
	const csv = button("Save as CSV", () =>
		asCsv(sorting).then((table) => saveBlob(new Blob([table], { type: "text/csv" }), "sorted.csv"), failed),
	);
	const clear = button("Remove all", removeAll);
	const element = h(
		"div",
		{ class: "card sum" },
		tally,
		wrong,
		reason,
		bar,
		h("div", { class: "row" }, halt, goOn, next, group, test, teach, zip, csv, clear),
	);

	/** Images that a check is about: all that the person hasn't labelled. */
	const pile = () => sorting.images.filter((image) => isGuess(image) && !image.held && !image.saved);

	/** Focus the button for more labels, and show the card: a closing dialog gives back the focus without scrolling. */
	function focus() {
		[next, group].find(({ hidden }) => !hidden)?.focus();
		element.scrollIntoView({ block: "nearest" });
	}
	async function saveZip() {
		zip.disabled = true;
		try {
			const files = sortedFiles(sorting).map(({ path, image }) => ({ path, file: image.file }));
			saveBlob(
				await zipped(files, (done) => (zip.textContent = `Packing ${percent(done / files.length)}`), signal),
				"sorted.zip",
			);
		} catch (error) {
			failed(error);
		} finally {
			zip.disabled = false;
			zip.textContent = "Download sorted zip";
		}
	}

	function refresh() {
		const { images, open, answer, threshold, names } = sorting;
		const done = images.length - open.length;
		const running = requests.isClassifying;
		const sorted = !open.length && names.length > 0;
		const others = elseOf(images).length;
		element.hidden = !images.length;
		tally.textContent = open.length
			? `${digits(done)} of ${digits(images.length)}`
			: [
					count(images.length, "image"),
					sorted && `${digits(unsureOf(images, threshold).length)} unsure`,
					others > 0 && `${digits(others)} something else`,
				]
					.filter(Boolean)
					.join(", ");
		const results = [...judged(images).values()];
		tell(
			wrong,
			!sorted
				? ""
				: results.length
					? checkedWords(sorting, results)
					: leftOver(images, answer?.calibration ?? undefined),
		);
		tell(reason, sorted ? (answer?.reason ?? "") : "");
		bar.hidden = !open.length;
		bar.max = images.length || 1;
		bar.value = done;
		halt.hidden = !running || !open.length;
		goOn.hidden = running || !(open.length || requests.hasFailed);
		const useful = Math.min(ROUND, images.filter((image) => isGuess(image) && !image.skipped).length);
		next.hidden = !sorted || !useful;
		next.textContent = requests.isChoosing ? "Choosing images …" : `Ask me about ${useful}`;
		test.hidden = !sorted || results.length > 0 || !pile().length;
		test.textContent = `Check with ${Math.min(CHECKED, pile().length)}`;
		teach.hidden = !results.length;
		group.hidden = open.length > 0 || images.length < MIN_GROUP;
		group.className = names.length ? "quiet" : "main";
		zip.hidden = csv.hidden = !names.length || !done || (running && open.length > 0);
		if (focusedIn(element)?.hidden) [goOn, halt, next, group, zip].find(({ hidden }) => !hidden)?.focus();
	}
	return { element, refresh, words: () => tally.textContent, left: () => wrong.textContent, focus, pile };
}

/** Return how many images are probably still wrong. Without a temperature the percentages may be far off.
 *
 *  @param {SortedImage[]} images @param {Calibration | undefined} calibration */
function leftOver(images, calibration) {
	const left = Math.round(likelyWrong(images));
	const readable = images.filter(classOf).length;
	if (!readable) return "";
	const word = calibration?.calibrated || typeof calibration?.temperature === "number" ? "About" : "Perhaps";
	return left
		? `${word} ${digits(left)} of ${digits(readable)} ${left === 1 ? "is" : "are"} still wrong.`
		: "Probably none is wrong.";
}

/** Return what the checked images say about the sort. `results` tells for each known one whether it is right.
 *
 *  @param {Sorting} sorting @param {boolean[]} results */
function checkedWords({ held, taught }, results) {
	const pile = held[0].held;
	const right = results.filter(Boolean).length;
	const unknown = held.filter(({ label }) => !label).length;
	return [
		`Of ${count(results.length, "photo")} drawn at random from ${digits(pile)}, ${right} ${right === 1 ? "is" : "are"} sorted right: ${percent(right / results.length)} (${likely(shareInterval(right, results.length, pile))}).`,
		unknown && `${count(unknown, "photo")} that you didn't know ${unknown === 1 ? "is" : "are"} left out.`,
		taught.length > 0 && "Photos that you labelled yourself are not counted here.",
	]
		.filter(Boolean)
		.join(" ");
}

/** @param {number} number */
const digits = (number) => number.toLocaleString("en");

/** @param {HTMLElement} element @param {string} words */
function tell(element, words) {
	element.textContent = words;
	element.hidden = !words;
}
