// One job: progress, losses, result. Follows the job's live events.

import { announce, confirmed, h, replace } from "../lib/dom.js";
import { codeFor, curl, orElse, python } from "../components/code.js";
import { follow } from "../lib/event_stream.js";
import { requestJson } from "../lib/http.js";
import { lossCharts } from "../components/losses.js";
import { problemBox } from "../lib/problem.js";
import { resultPanel } from "../components/result.js";
import { count, duration, list, percent, STAGES, stageWords, STATUSES, when } from "../lib/words.js";

const FINAL = ["succeeded", "failed", "cancelled"];

export function jobView({ parameter: id, signal }) {
  const title = h("h1", {}, "Training job");
  const lede = h("p", { class: "lede" });
  const stage = h("p", { class: "stage" });
  const left = h("p", { class: "soft" });
  const bar = h("progress", { max: "1", value: "0", "aria-label": "Progress" });
  const number = h("p", { class: "number", "aria-hidden": "true" });
  const cancel = h("button", { type: "button", class: "quiet", onclick: stop }, "Cancel");
  const early = h("a", { class: "button quiet", href: `#/try/${id}` }, "Try the instant preview");
  const lost = h("p", { class: "soft", role: "status" });
  const meter = h("div", { class: "card meter" }, h("div", { class: "meter-top" }, h("div", {}, stage, left), number), bar, h("div", { class: "row end" }, lost, early, cancel));
  const charts = lossCharts();
  const outcome = h("div", {});
  const trouble = h("div", {});
  const entries = h("ol", { class: "story" });
  const eventLog = h("details", { class: "plain", hidden: true }, h("summary", {}, "Event log"), entries);

  let announced = 0;
  function showProgress({ stage: name, fraction, eta_seconds: eta, ...more }) {
    stage.textContent = stageWords({ stage: name, ...more });
    bar.value = fraction ?? 0;
    number.textContent = percent(fraction ?? 0);
    left.textContent = eta === null || eta === undefined ? "" : `About ${duration(eta)} left`;
    document.title = `${percent(fraction ?? 0)} · clipcite`;
    // Screen readers get an announcement per quarter, not per second.
    if (fraction >= announced + 0.25) announce(`${stage.textContent}, ${percent((announced = fraction))}.`);
  }

  function draw(job) {
    title.textContent = job.name ?? list(job.classes.filter((entry) => entry.images).map((entry) => entry.name));
    lede.textContent = summary(job);
    if (job.progress) charts.add(job.progress); // the last step has no event
    const finished = FINAL.includes(job.status);
    meter.hidden = finished;
    cancel.disabled = job.cancel_requested;
    cancel.textContent = job.cancel_requested ? "Stopping …" : "Cancel";
    if (job.status === "queued") {
      stage.textContent = "Waiting in the queue";
      left.textContent = job.queue_position > 1 ? `${count(job.queue_position - 1, "job")} before this one` : "Next in the queue";
      bar.removeAttribute("value");
      number.textContent = "";
      document.title = "Queued · clipcite";
    } else if (!finished) {
      if (job.progress) showProgress(job.progress);
    } else {
      document.title = `${STATUSES[job.status]} · clipcite`;
      replace(outcome, ending(job));
    }
  }

  async function stop() {
    if (!(await confirmed("Cancel this job? Its training progress is lost.", "Cancel the job"))) return;
    try {
      draw(await requestJson(`/jobs/${id}/cancel`, { method: "POST", signal }));
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    }
  }

  function handle(event) {
    if (event.name === "progress") {
      showProgress(event.data);
      charts.add(event.data);
      return;
    }
    eventLog.hidden = false;
    entries.append(h("li", {}, h("time", { datetime: event.at }, new Date(event.at).toLocaleTimeString()), ` ${sentence(event)}`));
  }

  async function run() {
    draw(await requestJson(`/jobs/${id}`, { signal }));
    const refresh = async () => draw(await requestJson(`/jobs/${id}`, { signal }));
    await follow(id, {
      signal,
      onLost: (isLost) => (lost.textContent = isLost ? "Reconnecting …" : ""),
      onEvent: (event) => {
        handle(event);
        if (["started", "queued", "requeued", "cancel_requested"].includes(event.type)) refresh().catch(() => {});
      },
    });
    if (signal.aborted) return;
    const job = await requestJson(`/jobs/${id}`, { signal });
    announce(verdictLine(job));
    draw(job);
  }
  run().catch((error) => {
    if (error.name === "AbortError") return;
    meter.hidden = true;
    if (error.status !== 404) return replace(trouble, problemBox(error));
    title.textContent = "Job not found";
    code.hidden = true;
    replace(trouble, h("p", { role: "alert" }, "The job may have been deleted, or may belong to another owner. ", h("a", { href: "#/jobs" }, "All jobs")));
  });

  const code = codeFor({
    what: "this job",
    curl: () =>
      [
        "# returns when the job ends, or after 60 s",
        curl(`/jobs/${id}?wait=60`),
        orElse("read the report", curl(`/jobs/${id}/report`)),
        orElse("cancel the job", curl(`/jobs/${id}/cancel`, [["-X", "POST"]])),
        orElse("delete the job", curl(`/jobs/${id}`, [["-X", "DELETE"]])),
      ].join("\n"),
    python: () =>
      python([
        `job = client.jobs.wait("${id}")`,
        "print(job.status, job.model_id)",
        orElse("read the report", `print(client.jobs.report("${id}").summary)`),
        orElse("cancel the job", `client.jobs.cancel("${id}")`),
        orElse("delete the job", `client.jobs.delete("${id}")`),
      ]),
  });
  return h("section", { class: "job" }, title, lede, meter, outcome, trouble, charts.element, eventLog, code);
}

function summary(job) {
  const images = job.classes.reduce((sum, entry) => sum + entry.images, 0);
  const trained = job.classes.filter((entry) => entry.images).length;
  return `${count(images, "image")} in ${count(trained, "class", "classes")}, submitted ${when(job.created_at)}.`;
}

function verdictLine(job) {
  return job.status === "failed" ? `Job failed. ${job.error?.detail ?? ""}` : `${STATUSES[job.status]}.`;
}

function ending(job) {
  if (job.status === "succeeded") return resultPanel(job);
  if (job.status === "cancelled") {
    return h("div", { class: "card" }, h("h2", {}, "Cancelled"), h("p", {}, "No model was stored. ", h("a", { href: "#/" }, "Train another model")));
  }
  return [problemBox(job.error?.detail ?? "The job failed. The service gave no reason."), h("p", {}, h("a", { href: "#/" }, "Try again"))];
}

const SENTENCES = {
  queued: () => "Job submitted.",
  started: () => "Training started.",
  stage: ({ stage }) => `${STAGES[stage] ?? stage}.`,
  checkpoint: ({ epoch }) => `Checkpoint stored after ${count(epoch, "epoch")}.`,
  resumed: ({ epoch }) => `Resumed from epoch ${epoch}.`,
  requeued: () => "Worker stopped. Retrying.",
  cancel_requested: () => "Cancellation requested.",
  succeeded: () => "Model ready.",
  failed: () => "Job failed.",
  cancelled: () => "Job cancelled.",
};

function sentence({ type, data }) {
  const describe = SENTENCES[type];
  return describe ? describe(data ?? {}) : (data?.detail ?? type.replaceAll("_", " "));
}
