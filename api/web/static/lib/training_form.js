// The images that somebody has brought, by class, and the form that they are sent in.

import { inspect, markCopies } from "./image_check.js";
import { sorted } from "./dropped_files.js";

const NAMELESS = "";
let made = 0; // images so far: each has a number of its own
const LONGEST_NAME = 150; // the service shortens names above 200 in its answers

/** Classes with their images. Says "change" when something about them has changed. */
export class Shots extends EventTarget {
  classes = [];

  get images() {
    return this.classes.flatMap((of) => of.images);
  }

  /** Classes that have something to learn from. */
  get trained() {
    return this.classes.filter((of) => of.images.some((image) => image.split === "train"));
  }

  get bad() {
    return this.images.filter((image) => image.problem?.level === "bad");
  }

  get bytes() {
    return this.images.reduce((sum, image) => sum + image.file.size, 0);
  }

  /** What still has to be done before it can start; empty when nothing. */
  get missing() {
    const trained = this.trained;
    if (trained.length < 2) return "Show at least two classes, each with an image.";
    if (this.classes.some((of) => !of.name.trim() && of.images.length)) return "Give every class a name.";
    if (this.bad.length) return "Replace or remove the images marked in red.";
    return "";
  }

  classNamed(name) {
    const same = (of) => of.name.trim().toLowerCase() === name.trim().toLowerCase();
    return this.classes.find(same) ?? this.addClass(name);
  }

  addClass(name = NAMELESS) {
    const of = { name, prompts: [], images: [] };
    this.classes.push(of);
    this.changed();
    return of;
  }

  removeClass(of) {
    of.images.forEach(forget);
    this.classes = this.classes.filter((other) => other !== of);
    this.changed();
  }

  /** Take in what was dropped, into the classes of its folders or all into `target`.
   *  Returns how many images that were. */
  async add(items, target = null) {
    const found = sorted(items);
    const looks = found.map(({ file, name, className, split }) => {
      const of = target ?? this.classNamed(className ?? NAMELESS);
      made += 1;
      const image = { id: made, file, name, split, problem: null };
      of.images.push(image);
      return inspect(image).then(() => this.changed());
    });
    this.changed();
    await Promise.all(looks);
    return found.length;
  }

  remove(image) {
    for (const of of this.classes) of.images = of.images.filter((other) => other !== image);
    forget(image);
    this.changed();
  }

  clear() {
    this.images.forEach(forget);
    this.classes = [];
    this.changed();
  }

  changed() {
    markCopies(this.classes);
    this.dispatchEvent(new Event("change"));
  }

  /** The form for POST /adapt, and which image each of its file names means. */
  form({ name, config }) {
    const form = new FormData();
    const files = new Map();
    for (const of of this.classes) {
      for (const image of of.images) {
        const file = unique(of.name.trim(), image.name, files);
        files.set(file, image);
        const prefix = image.split === "test" ? "test_" : "";
        form.append(`${prefix}images`, image.file, file);
        form.append(`${prefix}labels`, of.name.trim());
      }
    }
    if (name) form.append("name", name);
    form.append("config", JSON.stringify({ ...config, ...this.prompts() }));
    return { form, files };
  }

  /** The same text as long as the form and `more` stay the same. */
  fingerprint(more) {
    const of = this.classes.map(({ name, prompts, images }) => [name, prompts, images.map(({ id, split }) => [id, split])]);
    return JSON.stringify([more, of]);
  }

  prompts() {
    const given = this.classes.filter((of) => of.prompts.length);
    return given.length ? { prompts: Object.fromEntries(given.map((of) => [of.name.trim(), of.prompts])) } : {};
  }

  /** Note what the service said of single images, in place of what it said before: [{file, detail}], and
   *  the level of each, "bad" or "note". Returns what fits no image. */
  mark(findings, files, levelOf) {
    const rest = [];
    for (const image of this.images) if (image.problem?.service) image.problem = null;
    for (const finding of findings) {
      const image = files.get(finding.file);
      if (image) image.problem = { level: levelOf(finding), detail: finding.detail, service: true };
      else rest.push(finding.detail);
    }
    this.changed();
    return rest;
  }
}

/** A name for a file that the service gives back as it is, which says what it finds by these names. */
function unique(className, imageName, files) {
  // Folders are taken off there and controls replaced, and a form would escape quotes and line ends.
  const plain = (text) => text.slice(-LONGEST_NAME).replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}"/\\]/gu, "_");
  const [short, long] = [plain(imageName), plain(`${className} ${imageName}`)];
  if (!files.has(short)) return short;
  let name = long;
  for (let i = 2; files.has(name); i += 1) name = `${i} ${long}`;
  return name;
}

function forget(image) {
  if (image.url) URL.revokeObjectURL(image.url);
}
