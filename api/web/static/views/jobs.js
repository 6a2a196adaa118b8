// Training jobs, newest first.

import { codeFor, curl, javascript, python } from "../components/code.js";
import { pagedList } from "../components/pager.js";
import { verdictTag } from "../components/result/verdict.js";
import { button, confirmed, h, replace, unseen } from "../lib/dom.js";
import { newKey } from "../lib/ids.js";
import { attempt, pressed } from "../lib/problem.js";
import { call, requestJson } from "../lib/service/http.js";
import { retrain } from "../lib/training/retrain.js";
import { count, FINAL, list, percent, STAGES, STATUSES, when } from "../lib/words.js";

const POLL_MS = 2_000;

const MOODS = { succeeded: "good", failed: "poor", cancelled: "open", queued: "busy", running: "busy" };

/** @param {{ signal: AbortSignal }} options */
export function jobsView({ signal }) {
	return h(
		"section",
		{},
		h("h1", {}, "Jobs"),
		h("p", { class: "lede" }, "Training jobs, newest first."),
		pagedList({
			path: "/jobs",
			signal,
			item: (job) => {
				const item = h("div", {}, row(job));
				if (!FINAL.includes(job.status)) watch(job.id, item, signal);
				return item;
			},
			empty: [
				h("h2", {}, "No jobs yet"),
				h("p", {}, "Add a few images per class to start a training job."),
				h("a", { class: "button main", href: "#/" }, "Train a model"),
			],
		}),
		codeFor({
			curl: () => curl("/jobs?limit=20"),
			python: () => python(["for job in client.jobs.list():", "    print(job.id, job.status, job.name)"]),
			javascript: () =>
				javascript("/jobs?limit=20", {
					lines: ["for (const job of body.data) console.log(job.id, job.status, job.name);"],
				}),
		}),
	);
}

/** Draw the row of an open job again whenever its state changes, while the page is visible.
 *
 *  @param {string} id @param {HTMLElement} item @param {AbortSignal} signal */
async function watch(id, item, signal) {
	let shown = "";
	while (!signal.aborted) {
		await new Promise((resolve) => setTimeout(resolve, POLL_MS));
		if (document.hidden || signal.aborted || item.contains(document.activeElement)) continue;
		try {
			const job = await requestJson(`/jobs/${encodeURIComponent(id)}`, { signal });
			const state = JSON.stringify([job.status, job.progress?.stage, percent(job.progress?.fraction ?? 0)]);
			if (state !== shown) replace(item, row(job));
			shown = state;
			if (FINAL.includes(job.status)) return;
		} catch (error) {
			if (error.name === "AbortError" || error.status === 404) return; // others: the next poll may succeed
		}
	}
}

/** Return the verdict of a finished job, else its state, which is kept up to date. @param {Job} job */
function statusTag(job) {
	if (job.status === "succeeded") return verdictTag(job.metrics);
	const { status, progress } = job;
	const words =
		status === "running" && progress ? `${STAGES[progress.stage]} ${percent(progress.fraction)}` : STATUSES[status];
	return h("span", { class: `tag ${MOODS[job.status]}` }, words);
}

/** @param {Job} job */
function row(job) {
	const trained = job.classes.filter((entry) => entry.images);
	const name = job.name ?? list(trained.map((entry) => entry.name));
	const images = trained.reduce((sum, entry) => sum + entry.images, 0);
	const content = `${count(images, "image")} in ${count(trained.length, "class", "classes")}`;
	const trouble = h("div", {});
	const keyOf = newKey(); // of this row alone: shown again, it trains again
	const finished = FINAL.includes(job.status);
	const link = `#/jobs/${encodeURIComponent(job.id)}`;
	async function remove(event) {
		const row = event.target.closest("li");
		if (!(await confirmed(`Delete the job “${name}” and its images? The model stays.`, "Delete"))) return;
		await attempt(trouble, async () => {
			await call(`/jobs/${encodeURIComponent(job.id)}`, { method: "DELETE" });
			row.remove();
		});
	}
	function trainAgain(event) {
		return pressed(event.target, trouble, async () => {
			location.hash = `#/jobs/${encodeURIComponent(await retrain(job.id, {}, { key: keyOf(job.id) }))}`;
		});
	}
	return [
		h("div", { class: "row" }, h("h2", {}, h("a", { href: link }, name)), statusTag(job)),
		h("p", { class: "soft" }, `${content}, ${when(job.created_at)}`),
		job.error && h("p", { class: "soft" }, job.error.detail),
		h(
			"div",
			{ class: "row" },
			h("a", { class: "button quiet", href: link }, finished ? "View" : "Follow", unseen(` ${name}`)),
			job.model_id &&
				h(
					"a",
					{ class: "button quiet", href: `#/try/${encodeURIComponent(job.model_id)}` },
					"Try it",
					unseen(` ${name}`),
				),
			["failed", "cancelled"].includes(job.status) && button(["Train again", unseen(` ${name}`)], trainAgain),
			finished && button(["Delete", unseen(` ${name}`)], remove),
		),
		trouble,
	];
}
