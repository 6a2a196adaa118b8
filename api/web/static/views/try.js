// Try view: classifies images among any class names, again after every change.

import { announce, debounce, h, newId, replace } from "../lib/dom.js";
import { predictionCard } from "../components/predictions.js";
import { chipField } from "../components/chips.js";
import { classify } from "../lib/classify.js";
import { classifyLines, codeFor, curl, python } from "../components/code.js";
import { dropZone } from "../components/dropzone.js";
import { requestJson } from "../lib/http.js";
import { inspect } from "../lib/image_check.js";
import { modelName } from "./models.js";
import { problemBox } from "../lib/problem.js";
import { imagesOf } from "../lib/dropped_files.js";
import { count, list } from "../lib/words.js";

const MAX_IMAGES = 16; // each change classifies all images again
const STOCK = "stock";

const kept = { images: [], names: [], model: null, shownModel: null, compare: false, alpha: null }; // survives while other views are shown

export function tryView({ parameter, signal }) {
  let models = [];
  let wanted = parameter ?? kept.model ?? STOCK;
  let pending = new AbortController();
  const ids = { model: newId("model"), alpha: newId("alpha"), compare: newId("compare") };

  const select = h("select", { id: ids.model, onchange: () => choose(select.value) });
  const slider = h("input", { type: "range", id: ids.alpha, min: "0", max: "1", step: "0.01", value: "0.5", oninput: changeAlpha });
  const alphaText = h("span", { class: "value", "aria-hidden": "true" }); // screen readers read the slider
  const alphaField = h(
    "div",
    { class: "field" },
    h("label", { for: ids.alpha }, "Strength (α) ", alphaText),
    slider,
    h("div", { class: "ends soft", "aria-hidden": "true" }, h("span", {}, "Pre-trained model"), h("span", {}, "Your examples")),
  );
  const compare = h("input", { type: "checkbox", id: ids.compare, onchange: () => ((kept.compare = compare.checked), soon()) });
  compare.checked = kept.compare;
  const compareField = h("div", { class: "choice" }, compare, h("label", { for: ids.compare }, "Compare with the pre-trained model"));
  const chips = chipField(kept.names, () => soon());
  const results = h("ul", { class: "answers" });
  const trouble = h("div", {});
  const timing = h("p", { class: "soft" });
  const hint = h("p", { class: "soft" });
  const early = h("p", { class: "soft", hidden: true }, "Instant preview from your images, before training. The trained model is usually better.");

  const zone = dropZone({ title: "Drop images here", hint: "Best: images that weren't used for training.", small: true, add: take });

  async function take(items) {
    replace(trouble);
    try {
      const chosen = imagesOf(await items).slice(0, MAX_IMAGES - kept.images.length);
      const added = chosen.map(({ file, name }) => ({ file, name, problem: null }));
      kept.images.push(...added);
      await Promise.all(added.map(inspect));
      draw();
      soon();
      announce(`${count(added.length, "image")} added.`);
      if (!added.length) replace(trouble, problemBox(kept.images.length >= MAX_IMAGES ? `The maximum is ${MAX_IMAGES} images. Remove some first.` : "No images found."));
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }

  function remove(image) {
    kept.images = kept.images.filter((other) => other !== image);
    if (image.url) URL.revokeObjectURL(image.url);
    draw();
    soon();
  }

  const cards = new Map();
  function draw() {
    for (const image of kept.images) {
      if (!cards.has(image)) cards.set(image, predictionCard(image, () => remove(image)));
      cards.get(image).refresh();
    }
    replace(results, kept.images.map((image) => cards.get(image).element));
    const names = kept.names.length;
    hint.textContent = !kept.images.length ? "" : !names ? "Type the class names to choose from." : names === 1 ? "A single class always wins. Add classes that could be confused with this one." : "";
    zone.classList.toggle("slim", kept.images.length > 0);
  }

  const current = () => models.find((model) => model.id === wanted);

  function changeAlpha() {
    kept.alpha = Number(slider.value);
    showAlpha();
    soon();
  }
  function showAlpha() {
    alphaText.textContent = Number(slider.value).toFixed(2);
    slider.setAttribute("aria-valuetext", `${Math.round(100 * slider.value)} percent`);
  }

  function choose(id) {
    wanted = kept.model = id;
    const model = current();
    alphaField.hidden = !model || model.preview;
    compareField.hidden = !model;
    early.hidden = !model?.preview;
    if (model) {
      if (kept.shownModel?.id !== id) {
        // Replace the classes of the previous model, and keep typed class names.
        const typed = kept.names.filter((entry) => !kept.shownModel?.trained_classes.includes(entry.name) && !model.trained_classes.includes(entry.name));
        chips.set([...model.trained_classes.map((name) => ({ name, prompts: [] })), ...typed]);
        kept.shownModel = model;
        kept.alpha = null;
      }
      slider.value = kept.alpha ?? model.alpha ?? 0;
      showAlpha();
    }
    chips.kinds(new Set(model?.trained_classes ?? []));
    draw();
    soon();
  }

  function request(model) {
    const options = { model, class_names: kept.names.map((entry) => (entry.prompts.length ? entry : entry.name)) };
    if (model === wanted && !alphaField.hidden) options.alpha = Number(slider.value);
    return options;
  }

  async function classifyAll() {
    pending.abort();
    pending = new AbortController();
    const both = AbortSignal.any([pending.signal, signal]);
    const images = kept.images.filter((image) => image.problem?.level !== "bad");
    if (!images.length || !kept.names.length) return;
    const model = current();
    const started = performance.now();
    results.setAttribute("aria-busy", "true");
    try {
      const [now, before] = await Promise.all([
        classify(images, request(wanted), both),
        model && kept.compare ? classify(images, request(`${STOCK}:${model.backbone}`), both) : null,
      ]);
      images.forEach((image, i) => cards.get(image)?.show(now.results[i], before?.results[i], now));
      chips.kinds(new Set(now.class_names.filter((entry) => entry.kind === "trained").map((entry) => entry.name)));
      timing.textContent = `${count(images.length, "image")} in ${((performance.now() - started) / 1000).toFixed(2)} s.${now.calibration?.calibrated ? " Probabilities are calibrated." : ""}`;
      replace(trouble);
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    } finally {
      if (!both.aborted) results.removeAttribute("aria-busy");
    }
  }
  const soon = debounce(150, () => {
    draw();
    classifyAll();
  });
  signal.addEventListener("abort", soon.cancel);

  async function load() {
    models = (await requestJson("/models?limit=100", { signal })).data;
    try {
      await resolveWanted();
    } catch (error) {
      if (error.status !== 404) throw error;
      replace(trouble, problemBox(error)); // a deleted model, for example: the other models still work
      wanted = STOCK;
    }
    if (!parameter && !kept.model && models.length) wanted = models[0].id;
    replace(select, h("option", { value: STOCK }, "Pre-trained model (stock)"), models.map((model) => h("option", { value: model.id }, modelName(model))));
    select.value = wanted;
    choose(wanted);
  }
  async function resolveWanted() {
    if (wanted.startsWith("job_")) await resolveJob();
    if (wanted === STOCK || current()) return;
    const model = await requestJson(`/models/${encodeURIComponent(wanted)}`, { signal });
    models.push(model);
    wanted = model.id;
  }
  /** Select the model of a job, or its instant preview while it has no model. */
  async function resolveJob() {
    const job = await requestJson(`/jobs/${encodeURIComponent(wanted)}`, { signal });
    if (job.model_id) wanted = job.model_id;
    else {
      const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
      models.push({ id: job.id, name: `${job.name ?? list(trained)} (training)`, trained_classes: trained, backbone: job.config.backbone, preview: true });
    }
  }
  load().catch((error) => error.name !== "AbortError" && replace(trouble, problemBox(error)));

  const code = codeFor({
    curl: () => {
      const { model, alpha, class_names: names } = request(wanted);
      const options = [["-F", `model=${model}`], ["-F", `class_names=${JSON.stringify(names)}`]];
      if (alpha !== undefined) options.push(["-F", `alpha=${alpha}`]);
      return curl("/classify", [...options, ["-F", "images=@image.jpg"]]);
    },
    python: () => python(classifyLines(request(wanted))),
  });

  alphaField.hidden = compareField.hidden = true;
  draw();
  return h(
    "section",
    { class: "try" },
    h("h1", {}, "Try it"),
    h("p", { class: "lede" }, "Drop images and type class names, trained or new."),
    h(
      "div",
      { class: "two" },
      h("div", { class: "card panel" }, h("div", { class: "field" }, h("label", { for: ids.model }, "Model"), select, early), chips.element, alphaField, compareField),
      h(
        "div",
        {},
        zone,
        hint,
        trouble,
        results,
        timing,
        h("p", { class: "soft rule" }, h("span", { class: "tag open" }, "unsure"), ": the best class has less than 50%, or leads the next by less than 15 points. Probabilities compare these classes only, so an image of something else gets one of them too."),
      ),
    ),
    code,
  );
}
