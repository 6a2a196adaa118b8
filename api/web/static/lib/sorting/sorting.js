// The images that are being sorted, and the person's labels. They outlive the view.

import { inspect } from "../training/image_check.js";

export const MAX_IMAGES = 3000;
const DEFAULT_THRESHOLD = 0.6;

class Sorting extends EventTarget {
  /** Each with file, path, name; `predictions` and `features`, or `error`, once it is classified; `label`, the class that
   *  the person has set; and `saved`, the label that the service has: {model, id,
   *  class_name, learned}, `learned` if the model was trained with it. */
  images = [];
  /** Class names, as in the field: [{name, prompts}]. */
  names = [];
  threshold = DEFAULT_THRESHOLD;
  /** Id of the model that has answered. */
  model = null;
  trained = [];
  /** Request of the present model and class names, as JSON. */
  request = "";
  /** Request of the last answer for all images together. */
  together = "";
  /** Last answer of the service, without its results. */
  answer = null;
  /** The training with the corrections: {id, before, labels, classes, unsure, adopted, words, ended}. */
  training = null;
  #undo = [];

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** Add images. Returns the number of those that are new. */
  add(images) {
    const key = ({ path, file }) => `${path.join("/")} ${file.size} ${file.lastModified}`;
    const known = new Set(this.images.map(key));
    const fresh = images.filter((image) => !known.has(key(image))).slice(0, MAX_IMAGES - this.images.length);
    this.images.push(...fresh.map(({ file, path, name }) => ({ file, path, name, predictions: null, features: null, error: "", asked: "", label: null, saved: null })));
    this.changed();
    return fresh.length;
  }

  clear() {
    for (const { url } of this.images) if (url) URL.revokeObjectURL(url);
    Object.assign(this, { images: [], together: "", answer: null, training: null });
    this.#undo = [];
    this.changed();
  }

  /** Use another model. The answers of the last one stay until its own are there. */
  useModel(id, trained) {
    for (const image of this.images) Object.assign(image, { features: null, asked: "" });
    Object.assign(this, { model: id, trained, request: "", together: "", answer: null });
    this.changed();
  }

  /** Take the answer for these images. `asked` is the request without them. */
  take(images, { results, ...answer }, asked) {
    images.forEach((image, i) => {
      const { predictions, features, error } = results[i];
      image.predictions = predictions;
      image.features = features ?? image.features; // an answer for all together has none
      image.error = error?.detail ?? "";
      image.asked = asked;
    });
    if (answer.calibration) this.answer = answer;
    this.changed();
  }

  /** Images without an answer of the model. Those with features are classified again without an upload. */
  get open() {
    return this.images.filter(({ predictions, error, features, asked }) => !error && (!predictions || (!features && asked !== this.request)));
  }

  get labelled() {
    return this.images.filter(({ label }) => label);
  }

  /** Images whose label, or whose missing label, the service doesn't know yet. */
  get unsaved() {
    return this.images.filter((image) => image.label !== this.savedLabel(image));
  }

  savedLabel({ saved }) {
    return saved && saved.model === this.model ? saved.class_name : null;
  }

  /** Set labels [[image, name]]; null takes one back. */
  label(pairs) {
    this.#undo.push(pairs.map(([image]) => [image, image.label]));
    for (const [image, name] of pairs) image.label = name;
    this.changed();
  }

  get canUndo() {
    return this.#undo.length > 0;
  }

  /** Undo the last call of `label`, and return its images. */
  undo() {
    const before = this.#undo.pop() ?? [];
    for (const [image, label] of before) image.label = label;
    this.changed();
    return before.map(([image]) => image);
  }
}

export const sorting = new Sorting();

/** Set the thumbnail (`url`) of the image, once. */
export function checked(image) {
  image.checked ??= inspect(image);
  return image.checked;
}

addEventListener("beforeunload", (event) => {
  if (sorting.unsaved.length) event.preventDefault(); // the browser asks first
});
