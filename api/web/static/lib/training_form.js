// The pictures that somebody has brought, by class, and the form that they are sent in.

import { inspect, markCopies } from "./image_check.js";
import { sorted } from "./dropped_files.js";

const NAMELESS = "";
let made = 0; // pictures so far: each has a number of its own
const LONGEST_NAME = 150; // the service shortens names above 200 in its answers

/** Classes with their pictures. Says "change" when something about them has changed. */
export class Shots extends EventTarget {
  classes = [];

  get pictures() {
    return this.classes.flatMap((of) => of.pictures);
  }

  /** Classes that have something to learn from. */
  get trained() {
    return this.classes.filter((of) => of.pictures.some((picture) => picture.split === "train"));
  }

  get bad() {
    return this.pictures.filter((picture) => picture.problem?.level === "bad");
  }

  get bytes() {
    return this.pictures.reduce((sum, picture) => sum + picture.file.size, 0);
  }

  /** What still has to be done before it can start; empty when nothing. */
  get missing() {
    const trained = this.trained;
    if (trained.length < 2) return "Show at least two classes, each with a picture.";
    if (this.classes.some((of) => !of.name.trim() && of.pictures.length)) return "Give every class a name.";
    if (this.bad.length) return "Replace or remove the pictures marked in red.";
    return "";
  }

  classNamed(name) {
    const same = (of) => of.name.trim().toLowerCase() === name.trim().toLowerCase();
    return this.classes.find(same) ?? this.addClass(name);
  }

  addClass(name = NAMELESS) {
    const of = { name, texts: [], pictures: [] };
    this.classes.push(of);
    this.changed();
    return of;
  }

  removeClass(of) {
    of.pictures.forEach(forget);
    this.classes = this.classes.filter((other) => other !== of);
    this.changed();
  }

  /** Take in what was dropped, into the classes of its folders or all into `target`.
   *  Returns how many pictures that were. */
  async add(items, target = null) {
    const found = sorted(items);
    const looks = found.map(({ file, name, className, split }) => {
      const of = target ?? this.classNamed(className ?? NAMELESS);
      made += 1;
      const picture = { id: made, file, name, split, problem: null };
      of.pictures.push(picture);
      return inspect(picture).then(() => this.changed());
    });
    this.changed();
    await Promise.all(looks);
    return found.length;
  }

  remove(picture) {
    for (const of of this.classes) of.pictures = of.pictures.filter((other) => other !== picture);
    forget(picture);
    this.changed();
  }

  clear() {
    this.pictures.forEach(forget);
    this.classes = [];
    this.changed();
  }

  changed() {
    markCopies(this.classes);
    this.dispatchEvent(new Event("change"));
  }

  /** The form for POST /adapt, and which picture each of its file names means. */
  form({ name, config }) {
    const form = new FormData();
    const files = new Map();
    for (const of of this.classes) {
      for (const picture of of.pictures) {
        const file = unique(of.name.trim(), picture.name, files);
        files.set(file, picture);
        const prefix = picture.split === "test" ? "test_" : "";
        form.append(`${prefix}images`, picture.file, file);
        form.append(`${prefix}labels`, of.name.trim());
      }
    }
    if (name) form.append("name", name);
    form.append("config", JSON.stringify({ ...config, ...this.texts() }));
    return { form, files };
  }

  /** The same text as long as the form and `more` stay the same. */
  fingerprint(more) {
    const of = this.classes.map(({ name, texts, pictures }) => [name, texts, pictures.map(({ id, split }) => [id, split])]);
    return JSON.stringify([more, of]);
  }

  texts() {
    const given = this.classes.filter((of) => of.texts.length);
    return given.length ? { texts: Object.fromEntries(given.map((of) => [of.name.trim(), of.texts])) } : {};
  }

  /** Note what the service said of single pictures, in place of what it said before: [{file, detail}], and
   *  the level of each, "bad" or "note". Returns what fits no picture. */
  mark(findings, files, levelOf) {
    const rest = [];
    for (const picture of this.pictures) if (picture.problem?.service) picture.problem = null;
    for (const finding of findings) {
      const picture = files.get(finding.file);
      if (picture) picture.problem = { level: levelOf(finding), detail: finding.detail, service: true };
      else rest.push(finding.detail);
    }
    this.changed();
    return rest;
  }
}

/** A name for a file that the service gives back as it is, which says what it finds by these names. */
function unique(className, pictureName, files) {
  // Folders are taken off there and controls replaced, and a form would escape quotes and line ends.
  const plain = (text) => text.slice(-LONGEST_NAME).replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}"/\\]/gu, "_");
  const [short, long] = [plain(pictureName), plain(`${className} ${pictureName}`)];
  if (!files.has(short)) return short;
  let name = long;
  for (let i = 2; files.has(name); i += 1) name = `${i} ${long}`;
  return name;
}

function forget(picture) {
  if (picture.url) URL.revokeObjectURL(picture.url);
}
