// One job: how far it is, how it is learning, and what came of it. Follows the job wherever the page is opened.

import { announce, confirmed, h, replace } from "../lib/dom.js";
import { codeFor, curl, orElse, python } from "../components/code.js";
import { follow } from "../lib/event_stream.js";
import { ask } from "../lib/http.js";
import { lossCharts } from "../components/losses.js";
import { problemBox } from "../lib/problem.js";
import { resultPanel } from "../components/result.js";
import { count, duration, list, percent, STAGES, stageWords, STATUSES, when } from "../lib/words.js";

const FINAL = ["succeeded", "failed", "cancelled"];

export function jobView({ parameter: id, signal }) {
  const title = h("h1", {}, "Learning");
  const lede = h("p", { class: "lede" });
  const stage = h("p", { class: "stage" });
  const left = h("p", { class: "soft" });
  const bar = h("progress", { max: "1", value: "0", "aria-label": "How far it is" });
  const number = h("p", { class: "number", "aria-hidden": "true" });
  const cancel = h("button", { type: "button", class: "quiet", onclick: stop }, "Cancel");
  const early = h("a", { class: "button quiet", href: `#/try/${id}` }, "Try it already");
  const lost = h("p", { class: "soft", role: "status" });
  const meter = h("div", { class: "card meter" }, h("div", { class: "meter-top" }, h("div", {}, stage, left), number), bar, h("div", { class: "row end" }, lost, early, cancel));
  const charts = lossCharts();
  const outcome = h("div", {});
  const trouble = h("div", {});
  const story = h("ol", { class: "story" });
  const diary = h("details", { class: "plain", hidden: true }, h("summary", {}, "What happened"), story);

  let said = 0;
  function move({ stage: name, fraction, eta_seconds: eta, ...more }) {
    stage.textContent = stageWords({ stage: name, ...more });
    bar.value = fraction ?? 0;
    number.textContent = percent(fraction ?? 0);
    left.textContent = eta === null || eta === undefined ? "" : `About ${duration(eta)} left`;
    document.title = `${percent(fraction ?? 0)} · clipcite`;
    // A screen reader hears every quarter, not every second.
    if (fraction >= said + 0.25) announce(`${stage.textContent}, ${percent((said = fraction))}.`);
  }

  function draw(job) {
    title.textContent = job.name ?? list(job.classes.filter((of) => of.images).map((of) => of.name));
    lede.textContent = summary(job);
    if (job.progress) charts.add(job.progress); // the last step, which is no event of its own
    const over = FINAL.includes(job.status);
    meter.hidden = over;
    cancel.disabled = job.cancel_requested;
    cancel.textContent = job.cancel_requested ? "Stopping …" : "Cancel";
    if (job.status === "queued") {
      stage.textContent = "Waiting for its turn";
      left.textContent = job.queue_position > 1 ? `${count(job.queue_position - 1, "job is", "jobs are")} before it` : "It is next";
      bar.removeAttribute("value");
      number.textContent = "";
      document.title = "Waiting · clipcite";
    } else if (!over) {
      if (job.progress) move(job.progress);
    } else {
      document.title = `${STATUSES[job.status]} · clipcite`;
      replace(outcome, ending(job));
    }
  }

  async function stop() {
    if (!(await confirmed("Cancel this job? What it has learnt so far is lost.", "Cancel the job"))) return;
    try {
      draw(await ask(`/jobs/${id}/cancel`, { method: "POST", signal }));
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    }
  }

  function happened(event) {
    if (event.name === "progress") {
      move(event.data);
      charts.add(event.data);
      return;
    }
    diary.hidden = false;
    story.append(h("li", {}, h("time", { datetime: event.at }, new Date(event.at).toLocaleTimeString()), ` ${sentence(event)}`));
  }

  async function run() {
    draw(await ask(`/jobs/${id}`, { signal }));
    const refresh = async () => draw(await ask(`/jobs/${id}`, { signal }));
    await follow(id, {
      signal,
      onLost: (away) => (lost.textContent = away ? "Connecting again …" : ""),
      onEvent: (event) => {
        happened(event);
        if (["started", "queued", "requeued", "cancel_requested"].includes(event.type)) refresh().catch(() => {});
      },
    });
    if (signal.aborted) return;
    const job = await ask(`/jobs/${id}`, { signal });
    announce(verdictLine(job));
    draw(job);
  }
  run().catch((error) => {
    if (error.name === "AbortError") return;
    meter.hidden = true;
    if (error.status !== 404) return replace(trouble, problemBox(error));
    title.textContent = "There is no such job";
    code.hidden = true;
    replace(trouble, h("p", { role: "alert" }, "It may have been deleted, or belong to another key. ", h("a", { href: "#/jobs" }, "See all jobs")));
  });

  const code = codeFor({
    what: "this job",
    curl: () =>
      [
        "# answers when the job has ended, or after a minute",
        curl(`/jobs/${id}?wait=60`),
        orElse("read the report", curl(`/jobs/${id}/report`)),
        orElse("cancel it", curl(`/jobs/${id}/cancel`, [["-X", "POST"]])),
        orElse("delete it", curl(`/jobs/${id}`, [["-X", "DELETE"]])),
      ].join("\n"),
    python: () =>
      python([
        `job = client.jobs.wait("${id}")`,
        "print(job.status, job.model_id)",
        orElse("read the report", `print(client.jobs.report("${id}").summary)`),
        orElse("cancel it", `client.jobs.cancel("${id}")`),
        orElse("delete it", `client.jobs.delete("${id}")`),
      ]),
  });
  return h("section", { class: "job" }, title, lede, meter, outcome, trouble, charts.element, diary, code);
}

function summary(job) {
  const images = job.classes.reduce((sum, of) => sum + of.images, 0);
  const trained = job.classes.filter((of) => of.images).length;
  return `${count(images, "image")} in ${count(trained, "class", "classes")}, sent ${when(job.created_at)}.`;
}

function verdictLine(job) {
  return job.status === "failed" ? `It failed. ${job.error?.detail ?? ""}` : `${STATUSES[job.status]}.`;
}

function ending(job) {
  if (job.status === "succeeded") return resultPanel(job);
  if (job.status === "cancelled") {
    return h("div", { class: "card" }, h("h2", {}, "Cancelled"), h("p", {}, "Nothing was kept of it. ", h("a", { href: "#/" }, "Teach something else")));
  }
  return [problemBox(job.error?.detail ?? "It failed without a reason."), h("p", {}, h("a", { href: "#/" }, "Try again"))];
}

const SENTENCES = {
  queued: () => "It was sent.",
  started: () => "Learning has begun.",
  stage: ({ stage }) => `${STAGES[stage] ?? stage}.`,
  checkpoint: ({ epoch }) => `What it has learnt in ${count(epoch, "round")} is safe.`,
  resumed: ({ epoch }) => `It goes on from round ${epoch}.`,
  requeued: () => "Whoever did the work went away; it is done again.",
  cancel_requested: () => "It is to stop.",
  succeeded: () => "It is ready.",
  failed: () => "It failed.",
  cancelled: () => "It was cancelled.",
};

function sentence({ type, data }) {
  const known = SENTENCES[type];
  return known ? known(data ?? {}) : (data?.detail ?? type.replaceAll("_", " "));
}
