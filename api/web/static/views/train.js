// The first view: bring images, see what is wrong with them, start.

import { announce, confirmed, debounce, h, newId, replace } from "../lib/dom.js";
import { classCard } from "../components/class_card.js";
import { codeFor, curl, literal, python } from "../components/code.js";
import { dropZone } from "../components/dropzone.js";
import { ask, upload } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";
import { checkWithService, stopCheck } from "../components/findings.js";
import { settingsPanel } from "../lib/config_form.js";
import { Shots } from "../lib/training_form.js";
import { count, size } from "../lib/words.js";

const STEPS = [
  ["Show", "Bring a folder of images for each class. What can't be used is pointed out before anything starts."],
  ["Wait", "Learning takes seconds to minutes. You may close this page meanwhile."],
  ["Ask", "Drop new images and type any names: those that it was taught, and others too."],
];

let kept = null; // what was brought stays while one looks at the other views

export function teachView({ signal }) {
  kept ??= { shots: new Shots(), settings: { name: "", epochs: null } };
  const { shots, settings } = kept;
  const box = h("div", { class: "classes" });
  const next = h("div", {});
  const trouble = h("div", {});
  const cards = new Map();
  let busy = false; // a form is being sent

  const zone = dropZone({
    title: "Drop folders, images or a zip here",
    hint: "A folder for each class: its name becomes the name of the class. 4 to 16 images each work well.",
    folders: true,
    add: (items) => take(items, null),
  });

  async function take(items, target) {
    replace(trouble);
    try {
      const got = await shots.add(await items, target);
      announce(`${count(got, "image")} added.`);
      if (!got) replace(trouble, problemBox("There were no images in that. Images are JPEG, PNG, WebP, GIF, BMP or TIFF files."));
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }

  const steps = h("ol", { class: "steps" }, STEPS.map(([name, words]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, words))));
  const panel = settingsPanel(settings, shots);
  const verdict = h("div", { class: "check" });
  const start = h("button", { type: "button", class: "main big", onclick: begin }, "Start learning");
  const why = h("p", { class: "soft", id: newId("why") });
  start.setAttribute("aria-describedby", why.id);
  const bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Sent" });
  const code = codeFor({ curl: asCurl, python: asPython });
  const addClass = h("button", { type: "button", class: "quiet", onclick: () => shots.addClass() }, "Add a class");
  const clear = h("button", { type: "button", class: "quiet", onclick: clearAll }, "Remove all");

  async function clearAll() {
    if (await confirmed("Remove all images from this page? Your files stay where they are.", "Remove all")) shots.clear();
  }

  const check = debounce(1200, () => !busy && checkWithService(shots, panel.config(), verdict, signal));
  let seen = "";
  /** All images are sent for a check: not at each key, but when an image has come, gone or been looked at. */
  function checkImages() {
    const now = JSON.stringify(shots.images.map(({ id, hash }) => [id, hash]));
    if (now === seen) return;
    seen = now;
    check();
  }
  function drawn() {
    for (const [of, card] of cards) {
      if (!shots.classes.includes(of)) {
        card.element.remove();
        cards.delete(of);
      }
    }
    for (const of of shots.classes) {
      if (!cards.has(of)) {
        const card = classCard(of, shots, (items) => take(items, of));
        cards.set(of, card);
        box.append(card.element);
      }
      cards.get(of).refresh();
    }
    const some = shots.classes.length > 0;
    zone.classList.toggle("slim", some);
    steps.hidden = some;
    next.hidden = !some;
    panel.refresh();
    const missing = shots.missing;
    start.disabled = busy || Boolean(missing);
    if (busy) return;
    why.textContent = missing || `${count(shots.images.length, "image")} in ${count(shots.trained.length, "class", "classes")}, ${size(shots.bytes)}.`;
  }
  // Thumbnails come in by the hundred; once a frame is enough.
  let planned = false;
  const changed = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      drawn();
    });
  };
  shots.addEventListener("change", changed, { signal });
  shots.addEventListener("change", checkImages, { signal });

  /** The same key for the same form: sent again after a lost answer, it makes no second job. */
  function idempotencyKey(content) {
    if (kept.sent?.content !== content) kept.sent = { content, key: randomKey() };
    return kept.sent.key;
  }

  async function begin() {
    if (busy) return;
    busy = true;
    check.cancel();
    stopCheck();
    replace(trouble);
    start.disabled = true;
    start.setAttribute("aria-busy", "true");
    bar.hidden = false;
    const name = settings.name.trim();
    const { form, files } = shots.form({ name, config: panel.config() });
    const headers = { "Idempotency-Key": idempotencyKey(shots.fingerprint([name, panel.config()])) };
    try {
      const onprogress = (share) => {
        bar.value = share;
        why.textContent = share < 1 ? "Sending the images …" : "The service is checking every image …";
      };
      const job = await upload("/adapt", form, { onprogress, headers, signal });
      kept = null;
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.code === "idempotent_job_deleted") kept.sent = null;
      const rest = error.errors ? shots.mark(error.errors, files, () => "bad") : [];
      replace(trouble, problemBox(error, rest));
    } finally {
      busy = false;
      start.removeAttribute("aria-busy");
      bar.hidden = true;
      drawn();
    }
  }

  const config = () => ({ ...panel.config(), ...shots.prompts() });
  const configured = () => Object.keys(config()).length > 0;
  function asCurl() {
    const options = [["-F", "archive=@images.zip"]];
    if (configured()) options.push(["-F", `config=${JSON.stringify(config())}`]);
    if (settings.name.trim()) options.push(["-F", `name=${settings.name.trim()}`]);
    return `# images.zip has a folder for each class\n${curl("/adapt", options)}`;
  }
  function asPython() {
    const name = settings.name.trim() ? `, name=${literal(settings.name.trim())}` : "";
    return python([
      configured() && `config = ${literal(config())}`,
      `job = client.adapt("images"${name}${configured() ? ", config=config" : ""})  # a folder with one for each class`,
      "print(job.wait().model_id)",
    ]);
  }

  replace(next, addClass, clear, panel.element, verdict, trouble, h("div", { class: "go" }, start, why, bar), code);
  next.classList.add("next");
  drawn();
  checkImages();
  return h(
    "section",
    { class: "teach", onfocusout: check },
    h("h1", {}, "Teach it your images"),
    h("p", { class: "lede" }, "Show a few examples of each thing you want to tell apart. It learns them in minutes, and still knows what it knew before."),
    running(signal),
    zone,
    steps,
    box,
    next,
  );
}

/** 32 hexadecimal digits. `crypto.randomUUID` is missing where a page came by http from another machine. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A line with what is being learnt right now, so that it is found again after a reload. */
function running(signal) {
  const line = h("p", { class: "running", hidden: true });
  ask("/jobs?status=running&limit=1", { signal })
    .then(({ data: [job] }) => {
      if (!job) return;
      line.hidden = false;
      replace(line, "Being learnt now: ", h("a", { href: `#/jobs/${job.id}` }, job.name ?? "a job without a name"));
    })
    .catch(() => {}); // it is an extra; what is wrong shows elsewhere
  return line;
}
