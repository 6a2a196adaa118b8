// One job: progress, losses, result. Follows the job's live events.

import { codeFor, curl, javascript, literal, python } from "../components/code.js";
import { lossCharts } from "../components/result/losses.js";
import { resultPanel } from "../components/result/panel.js";
import { roughPreview } from "../components/result/test_images.js";
import { verdictOf } from "../components/result/verdict.js";
import { announce, button, confirmed, fold, h, replace } from "../lib/dom.js";
import { attempt, problemBox, showProblem } from "../lib/problem.js";
import { follow } from "../lib/service/event_stream.js";
import { requestJson } from "../lib/service/http.js";
import { count, FINAL, list, percent, STAGES, STATUSES, stageWords, timeLeft, when } from "../lib/words.js";

/** @import { StreamEvent } from "../lib/service/event_stream.js" */

const STEPS = ["Preview", "Training", "Result"];

/** @param {{ parameter: string, signal: AbortSignal }} options */
export function jobView({ parameter: id, signal }) {
	const path = `/jobs/${encodeURIComponent(id)}`;
	const title = h("h1", {}, "Training job");
	const lede = h("p", { class: "lede" });
	const stage = h("p", { class: "stage" });
	const remaining = h("p", { class: "soft" });
	const bar = h("progress", { max: "1", value: "0", "aria-label": "Progress" });
	const number = h("p", { class: "number", "aria-hidden": "true" });
	const cancel = button("Cancel");
	const early = h("a", { class: "button quiet", href: `#/try/${encodeURIComponent(id)}` }, "Try the instant preview");
	const lost = h("p", { class: "soft", role: "status" });
	const meter = h(
		"div",
		{ class: "card meter", hidden: true }, // until the job is known
		h("div", { class: "meter-top" }, h("div", {}, stage, remaining), number),
		bar,
		h("div", { class: "row end" }, lost, early, cancel),
	);
	const charts = lossCharts();
	const outcome = h("div", {});
	const eta = h("span", {}); // in the sentence of a model that is being evaluated
	const waiting = h("div", {});
	const steps = h(
		"ol",
		{ class: "path", "aria-label": "Steps", hidden: true },
		STEPS.map((name) => h("li", {}, name)),
	);
	const trouble = h("div", {});
	const entries = h("ol", { class: "story" });
	const eventLog = h("div", { hidden: true }, h("h2", {}, "Event log"), entries);

	let announced = 0;
	let shown = ""; // the result on the page
	/** @param {Progress} progress */
	function showProgress({ stage: name, fraction, eta_seconds: seconds, model_eta_seconds: modelSeconds, ...more }) {
		stage.textContent = stageWords({ stage: name, ...more });
		bar.value = fraction ?? 0;
		number.textContent = percent(fraction ?? 0);
		const { text, eta: reportEta } = timeLeft(name, modelSeconds, seconds);
		remaining.textContent = text;
		eta.textContent = reportEta;
		document.title = `${percent(fraction ?? 0)} · clipcite`;
		// Screen readers get an announcement per quarter, not per second.
		if (fraction >= announced + 0.25) {
			announced = fraction;
			announce(`${stage.textContent}, ${percent(fraction)}.`);
		}
	}

	let asked = 0;
	let newest = 0; // request whose answer is shown
	/** Draw the answer, unless that of a later request is shown or the job has ended. @param {Promise<Job>} answer */
	async function take(answer) {
		asked += 1;
		const turn = asked;
		const job = await answer;
		const finished = FINAL.includes(job.status);
		if (turn < newest && !finished) return job;
		newest = finished ? Infinity : turn;
		draw(job);
		return job;
	}

	/** @param {Job} job */
	function draw(job) {
		title.textContent = job.name ?? list(job.classes.filter((entry) => entry.images).map((entry) => entry.name));
		lede.textContent = summary(job);
		if (job.progress) charts.add(job.progress); // the last step has no event
		const finished = FINAL.includes(job.status);
		steps.hidden = finished;
		const evaluating = !finished && Boolean(job.model_id);
		const step = evaluating ? 2 : job.status === "running" && job.progress?.stage !== "preparing" ? 1 : 0;
		for (const [i, item] of [...steps.children].entries()) {
			if (i === step) item.setAttribute("aria-current", "step");
			else item.removeAttribute("aria-current");
		}
		meter.hidden = finished;
		early.hidden = evaluating;
		cancel.disabled = job.cancel_requested;
		cancel.textContent = job.cancel_requested ? "Stopping …" : evaluating ? "Skip evaluation" : "Cancel";
		cancel.onclick = () => stop(evaluating);
		if (finished || evaluating) replace(waiting);
		else if (!waiting.firstChild) replace(waiting, roughPreview(job, signal));
		if (job.status === "queued") {
			stage.textContent = "Waiting in the queue";
			const before = (job.queue_position ?? 1) - 1;
			const atLeast = before < 999 ? "" : "At least ";
			remaining.textContent = before ? `${atLeast}${count(before, "job")} before this one` : "Next in the queue";
			bar.removeAttribute("value");
			number.textContent = "";
			document.title = "Queued · clipcite";
		} else if (!finished) {
			if (job.progress) showProgress(job.progress);
		} else {
			document.title = `${STATUSES[job.status]} · clipcite`;
		}
		const state = finished || evaluating ? `${job.status} ${job.metrics?.verdict}` : "";
		if (state && state !== shown) replace(outcome, ending(job, { eta, signal }));
		shown = state;
	}

	/** @param {boolean} evaluating */
	async function stop(evaluating) {
		const isSure = evaluating
			? confirmed("Skip the evaluation? The model is kept, without a report.", "Skip evaluation")
			: confirmed("Cancel this job? Its training progress is lost.", "Cancel the job");
		if (!(await isSure)) return;
		await attempt(trouble, () => take(requestJson(`${path}/cancel`, { method: "POST", signal })));
	}

	/** @param {StreamEvent} event */
	function handle(event) {
		if (event.name === "progress") {
			showProgress(event.data);
			charts.add(event.data);
			return;
		}
		eventLog.hidden = false;
		entries.append(
			h("li", {}, h("time", { datetime: event.at }, new Date(event.at).toLocaleTimeString()), ` ${sentence(event)}`),
		);
	}

	async function run() {
		const refresh = () => take(requestJson(path, { signal }));
		await refresh();
		await follow(id, {
			signal,
			onLost: (isLost) => (lost.textContent = isLost ? "Reconnecting …" : ""),
			onEvent: (event) => {
				handle(event);
				if (["started", "stage", "queued", "requeued", "cancel_requested", "model_published"].includes(event.type))
					refresh().catch(() => {});
			},
		});
		if (signal.aborted) return;
		announce(verdictLine(await refresh()));
	}
	run().catch((error) => {
		if (error.name === "AbortError") return;
		meter.hidden = true;
		if (error.status !== 404) return showProblem(trouble, error);
		title.textContent = "Job not found";
		details.hidden = true;
		const words = "The job may have been deleted, or may belong to another owner. ";
		replace(trouble, h("p", { role: "alert" }, words, h("a", { href: "#/jobs" }, "All jobs")));
	});

	const code = codeFor({
		what: "this job",
		curl: () => `# returns when the job ends, or after 60 s\n${curl(`${path}?wait=60`)}`,
		python: () => python([`job = client.jobs.wait(${literal(id)})`, "print(job.status, job.model_id)"]),
		javascript: () => javascript(`${path}?wait=60`, { lines: ["console.log(body.status, body.model_id);"] }),
	});
	const details = fold("Details", charts.element, eventLog, code);
	return h("section", { class: "job" }, title, lede, steps, outcome, meter, waiting, trouble, details);
}

/** @param {Job} job */
function summary(job) {
	const images = job.classes.reduce((sum, entry) => sum + entry.images, 0);
	const trained = job.classes.filter((entry) => entry.images).length;
	return `${count(images, "image")} in ${count(trained, "class", "classes")}, submitted ${when(job.created_at)}.`;
}

/** @param {Job} job */
function verdictLine(job) {
	if (job.status === "succeeded") return `${verdictOf(job.metrics).title}.`;
	return job.status === "failed" ? `Job failed. ${job.error?.detail ?? ""}` : `${STATUSES[job.status]}.`;
}

/** @param {Job} job @param {{ eta: HTMLElement, signal: AbortSignal }} options */
function ending(job, options) {
	const { model_id } = job;
	if (model_id) return resultPanel({ ...job, model_id }, options);
	if (job.status === "cancelled") {
		const words = h("p", {}, "No model was stored. ", h("a", { href: "#/" }, "Train another model"));
		return h("div", { class: "card" }, h("h2", {}, "Cancelled"), words);
	}
	return [
		problemBox(job.error?.detail ?? "The job failed without a reason. See the log of the worker."),
		h("p", {}, h("a", { href: "#/" }, "Try again")),
	];
}

/** @type {Record<string, (data: any) => string>} */
const SENTENCES = {
	queued: () => "Job submitted.",
	started: () => "Training started.",
	stage: ({ stage }) => `${STAGES[stage] ?? stage}.`,
	checkpoint: ({ epoch }) => `Checkpoint stored after ${count(epoch, "epoch")}.`,
	resumed: ({ epoch }) => `Resumed from epoch ${epoch}.`,
	requeued: () => "Worker stopped. Retrying.",
	cancel_requested: () => "Cancellation requested.",
	model_published: () => "Model ready. Evaluation started.",
	succeeded: () => "Finished.",
	failed: () => "Job failed.",
	cancelled: () => "Job cancelled.",
};

/** @param {StreamEvent} event */
function sentence({ type, data }) {
	const describe = SENTENCES[type];
	return describe ? describe(data ?? {}) : (data?.detail ?? type.replaceAll("_", " "));
}
