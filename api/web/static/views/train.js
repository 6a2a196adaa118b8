// Train view: add images, see the findings, start a job.

import { announce, confirmed, debounce, h, newId, replace } from "../lib/dom.js";
import { classCard } from "../components/class_card.js";
import { codeFor, curl, literal, python } from "../components/code.js";
import { dropZone } from "../components/dropzone.js";
import { requestJson, upload } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";
import { checkWithService, stopCheck } from "../components/findings.js";
import { settingsPanel } from "../lib/config_form.js";
import { Shots } from "../lib/training_form.js";
import { count, size } from "../lib/words.js";

const STEPS = [
  ["Add images", "One folder of images per class. Unusable images are marked before training starts."],
  ["Train", "Training takes seconds to minutes. You can close this page meanwhile."],
  ["Try", "Drop new images and type any class names, trained or new."],
];

let kept = null; // keeps the images while other views are shown

export function trainView({ signal }) {
  kept ??= { shots: new Shots(), settings: { name: "", epochs: null } };
  const { shots, settings } = kept;
  const box = h("div", { class: "classes" });
  const next = h("div", {});
  const trouble = h("div", {});
  const cards = new Map();
  let busy = false; // an upload is running

  const zone = dropZone({
    title: "Drop folders, images or a zip here",
    hint: "One folder per class. The folder name becomes the class name. 4 to 16 images per class work well.",
    folders: true,
    add: (items) => take(items, null),
  });

  async function take(items, target) {
    replace(trouble);
    try {
      const added = await shots.add(await items, target);
      announce(`${count(added, "image")} added.`);
      if (!added) replace(trouble, problemBox("No images found. Supported formats: JPEG, PNG, WebP, GIF, BMP, TIFF."));
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }

  const steps = h("ol", { class: "steps" }, STEPS.map(([name, text]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, text))));
  const panel = settingsPanel(settings, shots);
  const verdict = h("div", { class: "check" });
  const start = h("button", { type: "button", class: "main big", onclick: begin }, "Start training");
  const status = h("p", { class: "soft", id: newId("status") });
  start.setAttribute("aria-describedby", status.id);
  const bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Upload progress" });
  const code = codeFor({ curl: asCurl, python: asPython });
  const addClass = h("button", { type: "button", class: "quiet", onclick: () => shots.addClass() }, "Add a class");
  const clear = h("button", { type: "button", class: "quiet", onclick: clearAll }, "Remove all");

  async function clearAll() {
    if (await confirmed("Remove all images from this page? Your files stay where they are.", "Remove all")) shots.clear();
  }

  const check = debounce(1200, () => !busy && checkWithService(shots, panel.config(), verdict, signal));
  let seen = "";
  /** Check again only after an image was added, removed or hashed, since each check uploads all images. */
  function checkImages() {
    const now = JSON.stringify(shots.images.map(({ id, hash }) => [id, hash]));
    if (now === seen) return;
    seen = now;
    check();
  }
  function draw() {
    for (const [entry, card] of cards) {
      if (!shots.classes.includes(entry)) {
        card.element.remove();
        cards.delete(entry);
      }
    }
    for (const entry of shots.classes) {
      if (!cards.has(entry)) {
        const card = classCard(entry, shots, (items) => take(items, entry));
        cards.set(entry, card);
        box.append(card.element);
      }
      cards.get(entry).refresh();
    }
    const hasClasses = shots.classes.length > 0;
    zone.classList.toggle("slim", hasClasses);
    steps.hidden = hasClasses;
    next.hidden = !hasClasses;
    panel.refresh();
    const missing = shots.missing;
    start.disabled = busy || Boolean(missing);
    if (busy) return;
    status.textContent = missing || `${count(shots.images.length, "image")} in ${count(shots.trained.length, "class", "classes")}, ${size(shots.bytes)}.`;
  }
  // Hundreds of thumbnails may change per frame; one redraw per frame is enough.
  let planned = false;
  const changed = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      draw();
    });
  };
  shots.addEventListener("change", changed, { signal });
  shots.addEventListener("change", checkImages, { signal });

  /** Return the same key for the same form, so that a retry after a lost response creates no second job. */
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
      const onprogress = (fraction) => {
        bar.value = fraction;
        status.textContent = fraction < 1 ? "Uploading images …" : "Checking images …";
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
      draw();
    }
  }

  const config = () => ({ ...panel.config(), ...shots.prompts() });
  const configured = () => Object.keys(config()).length > 0;
  function asCurl() {
    const options = [["-F", "archive=@images.zip"]];
    if (configured()) options.push(["-F", `config=${JSON.stringify(config())}`]);
    if (settings.name.trim()) options.push(["-F", `name=${settings.name.trim()}`]);
    return `# images.zip contains one folder per class\n${curl("/adapt", options)}`;
  }
  function asPython() {
    const name = settings.name.trim() ? `, name=${literal(settings.name.trim())}` : "";
    return python([
      configured() && `config = ${literal(config())}`,
      `job = client.adapt("images"${name}${configured() ? ", config=config" : ""})  # contains one folder per class`,
      "print(job.wait().model_id)",
    ]);
  }

  replace(next, addClass, clear, panel.element, verdict, trouble, h("div", { class: "go" }, start, status, bar), code);
  next.classList.add("next");
  draw();
  checkImages();
  return h(
    "section",
    { class: "train", onfocusout: check },
    h("h1", {}, "Train a model on your images"),
    h("p", { class: "lede" }, "Add a few images per class. Training takes minutes, and the model still answers any class name."),
    runningJob(signal),
    zone,
    steps,
    box,
    next,
  );
}

/** Return 32 hexadecimal digits. `crypto.randomUUID` is missing over plain http from another machine. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Create a line that links to the running job, so that a reload doesn't lose it. */
function runningJob(signal) {
  const line = h("p", { class: "running", hidden: true });
  requestJson("/jobs?status=running&limit=1", { signal })
    .then(({ data: [job] }) => {
      if (!job) return;
      line.hidden = false;
      replace(line, "Training now: ", h("a", { href: `#/jobs/${job.id}` }, job.name ?? "unnamed job"));
    })
    .catch(() => {}); // optional line: errors show elsewhere
  return line;
}
