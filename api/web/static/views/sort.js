// Sort view: many images in groups by class, the unsure ones first. Corrections train the next version of the model.

import { announce, confirmed, debounce, h, newId, replace } from "../lib/dom.js";
import { codeFor, literal, python } from "../components/code.js";
import { acceptDrops, dropZone, onPhone } from "../components/dropzone.js";
import { askClass } from "../components/sort/class_dialog.js";
import { imageGroups } from "../components/sort/groups.js";
import { selectionBar } from "../components/sort/selection_bar.js";
import { ROUND, summaryCard } from "../components/sort/summary_card.js";
import { trainingCard } from "../components/sort/training_card.js";
import { walk } from "../components/sort/walk.js";
import { chipField } from "../components/try/chips.js";
import { modelSelect } from "../components/try/model_select.js";
import { imagesOf } from "../lib/files/dropped_files.js";
import { problemBox } from "../lib/problem.js";
import { askInParts, askTogether } from "../lib/sorting/ask.js";
import { recall } from "../lib/sorting/corrections.js";
import { classOf, nameOfKey } from "../lib/sorting/groups.js";
import { MAX_IMAGES, sorting } from "../lib/sorting/sorting.js";
import { count, percent } from "../lib/words.js";

const STEPS = [
  onPhone
    ? ["Add", "Choose photos. They are sorted by class, the unsure ones first."]
    : ["Drop", "Add a folder of images. They are sorted by class, the unsure ones first."],
  ["Correct", onPhone ? "Tap images and move them to their class." : "Select images and drag them onto their class, or press its digit."],
  ["Train again", "The next version learns from your corrections, and the groups update."],
];

export function sortView({ parameter, signal }) {
  const picked = new Set();
  let asking = null; // AbortController of the running requests
  let choosing = null; // AbortController of the request for the images to label next

  const trouble = h("div", {});
  const failed = (error) => error.name !== "AbortError" && replace(trouble, problemBox(error));
  const models = modelSelect({ choose, failed, signal });
  const names = () => sorting.names.map(({ name }) => name);
  const ownModel = () => {
    const model = models.current();
    return model?.job_id && !model.preview ? model : null;
  };
  const chips = chipField(sorting.names, () => renamed());
  const zone = dropZone({
    title: onPhone ? "Add photos" : "Drop a folder here",
    hint: "Images are classified, not stored. Only those that you correct are kept, with the model.",
    folders: true,
    small: true,
    add: take,
    drops: false,
  });

  const limitId = newId("limit");
  const limitText = h("span", { class: "value", "aria-hidden": "true" });
  const limit = h("input", {
    id: limitId,
    type: "range",
    min: "0",
    max: "1",
    step: "0.01",
    oninput: () => {
      sorting.threshold = Number(limit.value);
      sorting.changed();
    },
  });
  limit.value = sorting.threshold;
  const slider = h("div", { class: "field limit" }, h("label", { for: limitId }, "Unsure below ", limitText), limit);

  const summary = summaryCard(sorting, { isRunning: () => asking !== null, isChoosing: () => choosing !== null, stop: () => asking?.abort(), resume: ask, askMe, removeAll, failed, signal });
  const hint = h("p", { class: "soft" });
  const steps = h("ol", { class: "steps" }, STEPS.map(([name, text]) => h("li", {}, h("h2", {}, name), h("p", { class: "soft" }, text))));

  const chosen = () => [...picked];
  const training = trainingCard(sorting, { model: ownModel, use: (id) => models.load(id), signal });
  const groups = imageGroups(sorting, picked, { changed: () => selection.refresh(), move, press, look });
  const selection = selectionBar(sorting, picked, {
    move: (name) => move(chosen(), name),
    ask: () => askFor(chosen()),
    right: () => approve(chosen()),
    look: () => look(chosen()),
    back: () => takeBack(chosen()),
    undo,
    clear: () => groups.select([]),
    left: () => groups.focus(),
  });

  /** Set labels [[image, name]]. A class that is new here joins the names. */
  function label(pairs, done) {
    if (!pairs.length) return;
    groups.leave(pairs.map(([image]) => image), () => sorting.label(pairs));
    announce(`${count(pairs.length, "image")} ${done}.`);
    const fresh = pairs.map(([, name]) => name).find((name) => name && !names().includes(name));
    if (!fresh) return;
    chips.set([...sorting.names, { name: fresh, prompts: [] }]);
    renamed();
  }
  function move(images, name) {
    label(images.map((image) => [image, name]), `moved to ${name}`);
  }
  function takeBack(images) {
    label(images.filter((image) => image.label).map((image) => [image, null]), "taken back");
  }
  function approve(images) {
    label(images.filter((image) => image.predictions && !image.label).map((image) => [image, classOf(image)]), "confirmed");
  }
  async function askFor(images) {
    const name = await askClass(`Move ${count(images.length, "image")} to`, names());
    if (name) move(images, name);
  }
  function undo() {
    const images = sorting.undo();
    groups.refresh();
    groups.select(images);
    announce(`Undone: ${count(images.length, "image")}.`);
  }
  function look(images) {
    return walk(images, names, (image, name) => move([image], name));
  }
  /** Use a key that was pressed on an image. */
  function press(event, images) {
    const isCommand = event.ctrlKey || event.metaKey;
    const name = nameOfKey(names(), event.key);
    if (isCommand && event.key === "z") undo();
    else if (isCommand || event.altKey) return false;
    else if (name) move(images, name);
    else if (event.key === "/") askFor(images);
    else if (event.key === "Enter") approve(images);
    else if (event.key === "Delete" || event.key === "Backspace") takeBack(images);
    else if (event.key.toLowerCase() === "l") look(images);
    else return false;
    return true;
  }
  /** Ask the service which images to label next, and the person for their classes. */
  async function askMe() {
    choosing?.abort();
    const mine = (choosing = new AbortController());
    const known = sorting.images.filter(({ features }) => features);
    const labelled = [...known.keys()].filter((i) => known[i].label);
    const before = sorting.labelled.length;
    replace(trouble);
    draw();
    try {
      const { suggested } = await askTogether(known, { ...options(), suggest: ROUND, labelled }, AbortSignal.any([mine.signal, signal]));
      choosing = null;
      draw();
      await look(suggested.map((i) => known[i]));
      announce(`${count(sorting.labelled.length - before, "image")} labelled. ${summary.left()}`);
      summary.focus();
    } catch (error) {
      failed(error);
    } finally {
      if (choosing === mine) choosing = null;
      draw();
    }
  }

  async function take(items) {
    replace(trouble);
    try {
      const images = imagesOf(await items);
      const added = sorting.add(images);
      announce(`${count(added, "image")} added.`);
      if (!images.length) replace(trouble, problemBox("No images found. Supported formats: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC."));
      else if (images.length > added && sorting.images.length >= MAX_IMAGES) replace(trouble, problemBox(`The page sorts up to ${count(MAX_IMAGES, "image")} at once. For more, use the command clipcite sort.`));
      if (added) remember();
      if (onPhone) summary.element.scrollIntoView(); // it is below the fields
      ask();
    } catch (error) {
      failed(error);
    }
  }
  async function removeAll() {
    const unsaved = sorting.unsaved.length;
    if (unsaved && !(await confirmed(`Remove all images from this page? ${count(unsaved, "correction")} ${unsaved === 1 ? "isn't" : "aren't"} saved.`, "Remove all"))) return;
    asking?.abort();
    choosing?.abort();
    sorting.clear();
    zone.querySelector("button").focus();
  }
  /** Find the corrections that were kept with the model. */
  async function remember() {
    if (!ownModel() || !sorting.images.length) return;
    try {
      const found = await recall(sorting, signal);
      if (found) announce(`${count(found, "earlier correction")} found.`);
    } catch (error) {
      failed(error);
    }
  }

  function choose(id) {
    const model = models.current();
    const trained = model?.trained_classes ?? [];
    if (sorting.model !== id) {
      // Replace the classes of the previous model, and keep typed class names.
      const typed = sorting.names.filter(({ name }) => !sorting.trained.includes(name) && !trained.includes(name));
      chips.set([...trained.map((name) => ({ name, prompts: [] })), ...typed]);
      sorting.useModel(id, trained);
      remember();
    }
    chips.kinds(new Set(trained));
    draw();
    ask();
  }

  const options = () => ({ model: sorting.model, class_names: sorting.names.map((entry) => (entry.prompts.length ? entry : entry.name)) });
  /** Classify what has no answer yet, then all images together. */
  async function ask() {
    asking?.abort();
    choosing?.abort();
    const mine = (asking = new AbortController());
    const both = AbortSignal.any([mine.signal, signal]);
    const request = options();
    const asked = JSON.stringify(request);
    try {
      if (!sorting.images.length || !request.class_names.length || !sorting.model) return;
      replace(trouble);
      sorting.request = asked;
      draw();
      await askInParts(sorting.open, request, (images, answer) => both.aborted || sorting.take(images, answer, asked), both);
      const known = sorting.images.filter(({ features }) => features);
      const whole = `${asked} ${known.length}`;
      if (known.some((image) => image.asked !== asked) || (sorting.answer?.rule === "closed" && sorting.together !== whole)) {
        sorting.take(known, await askTogether(known, request, both), asked);
        sorting.together = whole;
      }
      announce(summary.words());
    } catch (error) {
      failed(error);
    } finally {
      if (asking === mine) asking = null;
      draw();
    }
  }
  const renamed = debounce(400, ask);
  signal.addEventListener("abort", renamed.cancel);

  function draw() {
    const total = sorting.images.length;
    zone.classList.toggle("slim", total > 0);
    steps.hidden = total > 0;
    hint.textContent = total && !sorting.names.length ? "Type the class names to sort by." : "";
    hint.hidden = !hint.textContent;
    slider.hidden = !total;
    limitText.textContent = percent(sorting.threshold);
    limit.setAttribute("aria-valuetext", percent(sorting.threshold));
    summary.refresh();
    groups.refresh();
    selection.refresh();
    training.refresh();
    groups.element.hidden = !total || !sorting.names.length;
  }
  const code = codeFor({
    what: "sort images",
    python: () =>
      python([
        `names = ${literal(names())}`,
        `answer = client.sort(["a.jpg", "b.jpg"], names, model=${literal(sorting.model)})`,
        "for result in answer.results:",
        "    print(result.file, result.best.class_name)",
      ]),
  });
  // Hundreds of images may change per frame; one redraw per frame is enough.
  let planned = false;
  function drawSoon() {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      if (!signal.aborted) draw();
    });
  }
  sorting.addEventListener("change", drawSoon, { signal });

  models.load(parameter ?? sorting.model ?? undefined).catch(failed);
  draw();
  const element = h(
    "section",
    { class: "sort" },
    h(
      "div",
      { class: "two" },
      h("div", { class: "side" }, h("h1", {}, "Sort"), h("div", { class: "card panel" }, models.element, chips.element, slider, zone)),
      h("div", { class: "sorted" }, steps, hint, trouble, summary.element, training.element, groups.element, selection.element, code),
    ),
  );
  acceptDrops(element, take);
  return element;
}
