// The images that are being sorted, and the person's labels. They outlive the view.

import { confirmed } from "../dom.js";
import { count } from "../words.js";
import { NONE } from "./groups.js";
import { note, recallNoted } from "./remembered.js";

export const MAX_IMAGES = 3000;
const DEFAULT_THRESHOLD = 0.6;

class Sorting extends EventTarget {
  /** Each with file, path, name; `predictions`, `rejected`, `likeness` and `features`, or `error`, once it is classified;
   *  `label`, the class that the person has set, or NONE; `skipped`, if the person doesn't know it; `held`, the
   *  size of the pile that it was drawn from, if its label checks the sort and is kept out of training, else 0; and `saved`,
   *  the label that the service has: {model, id, class_name, learned}, `learned` if the model was trained with it. */
  images = [];
  /** Class names, as in the field: [{name, prompts}]. */
  names = [];
  threshold = DEFAULT_THRESHOLD;
  /** Id of the model that has answered. */
  model = null;
  trained = [];
  /** Request of the last answer for all images together, as JSON. */
  together = "";
  /** Whether the groups are asked for as soon as all images have features. */
  grouping = false;
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
    const added = fresh.map(({ file, path, name }) => ({ file, path, name, predictions: null, rejected: false, likeness: 0, features: null, error: "", label: null, skipped: false, held: 0, saved: null }));
    this.images.push(...added);
    recallNoted(added).then(() => this.changed());
    this.changed();
    return fresh.length;
  }

  clear() {
    for (const { url } of this.images) if (url) URL.revokeObjectURL(url);
    Object.assign(this, { images: [], together: "", grouping: false, answer: null, training: null });
    this.#undo = [];
    this.changed();
  }

  /** Begin anew with a pile, which the pre-trained model groups. */
  begin(images) {
    this.clear();
    this.names.length = 0;
    this.useModel("stock", []);
    this.add(images);
    this.grouping = images.length > 0;
  }

  /** Begin with the images of another view, once the person agrees to lose labels. Returns whether it has begun. */
  async takePile(images) {
    const lost = this.unsaved.length;
    if (lost && !(await confirmed(`Sort has other images. Remove them? ${count(lost, "label")} ${lost === 1 ? "isn't" : "aren't"} saved.`, "Remove them"))) return false;
    this.begin(images.map(({ path, file, name }) => ({ path, file, name })));
    return true;
  }

  /** Use another model. The answers of the last one stay until its own are there. */
  useModel(id, trained) {
    for (const image of this.images) image.features = null;
    Object.assign(this, { model: id, trained, together: "", answer: null });
    this.changed();
  }

  /** Take the answer for these images. `withClasses` is false if only their features were asked for. */
  take(images, { results, ...answer }, withClasses) {
    images.forEach((image, i) => {
      const { predictions, rejected, in_distribution_score: likeness, features, error } = results[i];
      Object.assign(image, { predictions: withClasses ? predictions : null, rejected: Boolean(rejected), likeness });
      image.features = features ?? image.features; // an answer for all together has none
      image.error = error?.detail ?? "";
    });
    if (answer.calibration) this.answer = answer;
    this.changed();
  }

  /** Images that are still to be uploaded. Those with features are classified again without an upload. */
  get open() {
    return this.images.filter(({ error, features }) => !error && !features);
  }

  get labelled() {
    return this.images.filter(({ label }) => label);
  }

  /** Images whose label counts in the sort. Those of a check don't. */
  get taught() {
    return this.labelled.filter(({ held }) => !held);
  }

  /** Classes of these labels. */
  get labelledClasses() {
    return [...new Set(this.taught.map(({ label }) => label))].filter((label) => label !== NONE);
  }

  /** Images that were drawn to check the sort. */
  get held() {
    return this.images.filter(({ held }) => held);
  }

  /** Note that the person doesn't know these images. */
  skip(images) {
    for (const image of images) image.skipped = true;
    note(images);
    this.changed();
  }

  /** Let the labels of the check teach, too. */
  release() {
    const { held } = this;
    for (const image of held) image.held = 0;
    note(held);
    this.changed();
  }

  /** Say whether the model was trained with the label of the image. */
  isLearned({ label, saved }) {
    return saved?.model === this.model && Boolean(saved.learned) && saved.class_name === label;
  }

  /** Labelled images that can still teach the model. */
  get lessons() {
    return this.taught.filter((image) => image.label !== NONE && !this.isLearned(image));
  }

  /** Return the labels of a request for these images, by position: a class name, or null for none of them. A label that
   *  the model was trained with counts already. */
  labelsOf(images) {
    const names = new Set(this.names.map(({ name }) => name.toLowerCase()));
    const sent = [...images.entries()].filter(([, image]) => !image.held && (image.label === NONE || (image.label && !this.isLearned(image) && names.has(image.label.toLowerCase()))));
    return Object.fromEntries(sent.map(([i, { label }]) => [i, label === NONE ? null : label]));
  }

  /** Whether the answer says which images are something else: once the request has training images. The pre-trained
   *  model has only the labels, so there the person says first that there is something else. */
  get rejects() {
    const hasTrained = this.names.some(({ name }) => this.trained.includes(name));
    return hasTrained || (this.labelledClasses.length > 0 && this.taught.some(({ label }) => label === NONE));
  }

  /** Images whose label, or whose missing label, the service doesn't know yet. It keeps no "none of these", and no label
   *  of a check. */
  get unsaved() {
    return this.images.filter((image) => !image.held && (image.label === NONE ? null : image.label) !== this.savedLabel(image));
  }

  savedLabel({ saved }) {
    return saved && saved.model === this.model ? saved.class_name : null;
  }

  /** Set labels [[image, name]]; null takes one back. Classes that are new here join the names, and are returned. Those
   *  of a check come with the size of the pile (`held`), and are null for images that the person doesn't know. */
  label(pairs, held = 0) {
    const known = new Set([null, NONE, ...this.names.map(({ name }) => name)]);
    const added = [...new Set(pairs.map(([, name]) => name))].filter((name) => !known.has(name));
    this.#undo.push({ before: pairs.map(([image]) => [image, image.label, image.held]), added });
    for (const [image, name] of pairs) Object.assign(image, { label: name, held: held || (name ? image.held : 0) });
    note(pairs.map(([image]) => image));
    this.names.push(...added.map((name) => ({ name, prompts: [] })));
    this.changed();
    return added;
  }

  get canUndo() {
    return this.#undo.length > 0;
  }

  /** Undo the last call of `label`, and return its images. A class that only it had made goes. */
  undo() {
    const { before, added } = this.#undo.pop() ?? { before: [], added: [] };
    for (const [image, label, held] of before) Object.assign(image, { label, held });
    note(before.map(([image]) => image));
    const used = new Set(this.images.map(({ label }) => label));
    this.names.splice(0, Infinity, ...this.names.filter(({ name }) => !added.includes(name) || used.has(name)));
    this.changed();
    return before.map(([image]) => image);
  }
}

export const sorting = new Sorting();

addEventListener("beforeunload", (event) => {
  if (sorting.unsaved.length) event.preventDefault(); // the browser asks first
});
