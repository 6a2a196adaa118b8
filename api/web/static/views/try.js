// Images and any names in, answers out, anew with every change.

import { announce, debounce, h, newId, replace } from "../lib/dom.js";
import { answerCard } from "../components/predictions.js";
import { chipField } from "../components/chips.js";
import { classify } from "../lib/classify.js";
import { askLines, codeFor, curl, python } from "../components/code.js";
import { dropZone } from "../components/dropzone.js";
import { ask } from "../lib/http.js";
import { inspect } from "../lib/image_check.js";
import { modelName } from "./models.js";
import { problemBox } from "../lib/problem.js";
import { imagesOf } from "../lib/dropped_files.js";
import { count, list } from "../lib/words.js";

const MOST = 16; // images at a time: each change asks for all of them again
const STOCK = "stock";

const kept = { images: [], names: [], model: null, taught: null, compare: false, alpha: null }; // over a look at the other views

export function tryView({ parameter, signal }) {
  let models = [];
  let wanted = parameter ?? kept.model ?? STOCK;
  let asking = new AbortController();
  const ids = { model: newId("model"), alpha: newId("alpha"), compare: newId("compare") };

  const select = h("select", { id: ids.model, onchange: () => choose(select.value) });
  const slider = h("input", { type: "range", id: ids.alpha, min: "0", max: "1", step: "0.01", value: "0.5", oninput: slid });
  const shown = h("span", { class: "value", "aria-hidden": "true" }); // the slider says it itself
  const alphaField = h(
    "div",
    { class: "field" },
    h("label", { for: ids.alpha }, "How much of what it learnt ", shown),
    slider,
    h("div", { class: "ends soft", "aria-hidden": "true" }, h("span", {}, "as it was before"), h("span", {}, "only your examples")),
  );
  const compare = h("input", { type: "checkbox", id: ids.compare, onchange: () => ((kept.compare = compare.checked), soon()) });
  compare.checked = kept.compare;
  const compareField = h("div", { class: "choice" }, compare, h("label", { for: ids.compare }, "Compare with how it was before"));
  const chips = chipField(kept.names, () => soon());
  const results = h("ul", { class: "answers" });
  const trouble = h("div", {});
  const timing = h("p", { class: "soft" });
  const hint = h("p", { class: "soft" });
  const early = h("p", { class: "soft", hidden: true }, "This is a first idea from your images, before they have been learnt. The finished model will be better.");

  const zone = dropZone({ title: "Drop images here", hint: "Best those that it has not seen.", small: true, add: take });

  async function take(items) {
    replace(trouble);
    try {
      const found = imagesOf(await items).slice(0, MOST - kept.images.length);
      const added = found.map(({ file, name }) => ({ file, name, problem: null }));
      kept.images.push(...added);
      await Promise.all(added.map(inspect));
      draw();
      soon();
      announce(`${count(added.length, "image")} added.`);
      if (!added.length) replace(trouble, problemBox(`No image was added: ${kept.images.length >= MOST ? `there are ${MOST} already.` : "there was none in that."}`));
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
      if (!cards.has(image)) cards.set(image, answerCard(image, () => remove(image)));
      cards.get(image).refresh();
    }
    replace(results, kept.images.map((image) => cards.get(image).element));
    const names = kept.names.length;
    hint.textContent = !kept.images.length ? "" : !names ? "Type the names that it could be." : names === 1 ? "With one name alone it always wins. Add what it could be confused with." : "";
    zone.classList.toggle("slim", kept.images.length > 0);
  }

  const current = () => models.find((model) => model.id === wanted);

  function slid() {
    kept.alpha = Number(slider.value);
    showAlpha();
    soon();
  }
  function showAlpha() {
    shown.textContent = Number(slider.value).toFixed(2);
    slider.setAttribute("aria-valuetext", `${Math.round(100 * slider.value)} percent`);
  }

  function choose(id) {
    wanted = kept.model = id;
    const model = current();
    alphaField.hidden = !model || model.preview;
    compareField.hidden = !model;
    early.hidden = !model?.preview;
    if (model) {
      if (kept.taught?.id !== id) {
        // Names of the model before give way to this one's; those that were typed stay.
        const typed = kept.names.filter((of) => !kept.taught?.trained_classes.includes(of.name) && !model.trained_classes.includes(of.name));
        chips.set([...model.trained_classes.map((name) => ({ name, prompts: [] })), ...typed]);
        kept.taught = model;
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
    const options = { model, class_names: kept.names.map((of) => (of.prompts.length ? of : of.name)) };
    if (model === wanted && !alphaField.hidden) options.alpha = Number(slider.value);
    return options;
  }

  async function answer() {
    asking.abort();
    asking = new AbortController();
    const both = AbortSignal.any([asking.signal, signal]);
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
      chips.kinds(new Set(now.class_names.filter((of) => of.kind === "trained").map((of) => of.name)));
      timing.textContent = `${count(images.length, "image")} in ${((performance.now() - started) / 1000).toFixed(2)} s.${now.calibration?.calibrated ? " A share says how often such an answer is right." : ""}`;
      replace(trouble);
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    } finally {
      if (!both.aborted) results.removeAttribute("aria-busy");
    }
  }
  const soon = debounce(150, () => {
    draw();
    answer();
  });
  signal.addEventListener("abort", soon.cancel);

  async function load() {
    models = (await ask("/models?limit=100", { signal })).data;
    try {
      await takeWanted();
    } catch (error) {
      if (error.status !== 404) throw error;
      replace(trouble, problemBox(error)); // a model that was deleted, say: there are others
      wanted = STOCK;
    }
    if (!parameter && !kept.model && models.length) wanted = models[0].id;
    replace(select, h("option", { value: STOCK }, "As it came: nothing of yours learnt"), models.map((model) => h("option", { value: model.id }, modelName(model))));
    select.value = wanted;
    choose(wanted);
  }
  async function takeWanted() {
    if (wanted.startsWith("job_")) await takeJob();
    if (wanted === STOCK || current()) return;
    const one = await ask(`/models/${encodeURIComponent(wanted)}`, { signal });
    models.push(one);
    wanted = one.id;
  }
  /** A job answers too, by its images alone, until it has a model. */
  async function takeJob() {
    const job = await ask(`/jobs/${encodeURIComponent(wanted)}`, { signal });
    if (job.model_id) wanted = job.model_id;
    else {
      const trained = job.classes.filter((of) => of.images).map((of) => of.name);
      models.push({ id: job.id, name: `${job.name ?? list(trained)} (still learning)`, trained_classes: trained, backbone: job.config.backbone, preview: true });
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
    python: () => python(askLines(request(wanted))),
  });

  alphaField.hidden = compareField.hidden = true;
  draw();
  return h(
    "section",
    { class: "try" },
    h("h1", {}, "Try it"),
    h("p", { class: "lede" }, "Drop images and type what they could be: names that it was taught, or any others."),
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
        h("p", { class: "soft rule" }, h("span", { class: "tag open" }, "unsure"), " is written where the best name has less than 50 %, or leads the next by less than 15 points. The shares compare these names only: an image of something else gets one of them all the same."),
      ),
    ),
    code,
  );
}
