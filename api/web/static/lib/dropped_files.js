// What somebody drops or chooses, as a list of {path: ["folder", …, "file"], file}.

import { unzip } from "./unzip.js";

/** Everything in a drop, folders and zips opened. */
export async function dropped(transfer) {
  // Only in the event itself can the entries be had, so all of them are taken before the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length ? [] : [...transfer.files].map((file) => ({ path: [file.name], file }));
  for (const entry of entries) await walk(entry, [], files);
  return opened(files);
}

/** Everything that a file field has. */
export function chosen(input) {
  return opened(
    [...input.files].map((file) => ({ path: (file.webkitRelativePath || file.name).split("/"), file })),
  );
}

async function walk(entry, above, into) {
  const path = [...above, entry.name];
  if (entry.isFile) {
    into.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // At most 100 come at a time; none means that it was all.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const child of some) await walk(child, path, into);
  }
}

async function opened(files) {
  const all = [];
  for (const item of files) {
    if (/\.zip$/i.test(item.file.name)) {
      for (const inner of await unzip(item.file)) all.push(inner);
    } else all.push(item);
  }
  return all;
}

const TRAIN = new Set(["train", "training"]);
const TEST = new Set(["test", "testing"]);
const VALIDATION = new Set(["val", "valid", "validation"]);
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;

/** The images among the files, in the order of their paths: [{path, file, name}]. */
export function imagesOf(items) {
  const images = items.filter(
    ({ path, file }) =>
      !path.some((part) => part.startsWith(".") || part === "__MACOSX") &&
      (file.type.startsWith("image/") || IMAGE.test(file.name)),
  );
  images.sort((a, b) => a.path.join("/").localeCompare(b.path.join("/"), "en", { numeric: true }));
  return images.map(({ path, file }) => ({ path, file, name: path.at(-1) }));
}

/** The class and the part (train or test) of each image, by its folders: [{file, name, className, split}].
 *
 *  The rules are the service's for archives (api/archives/layout.py). Folders around all of it are passed
 *  over, and so is validation where there is a test. `className` is null for what lies in no class folder.
 *
 *  Throws an Error where a layout could mean two things. */
export function sorted(items) {
  const images = imagesOf(items);
  let root = 0;
  let inner, tops, known, deep;
  for (;;) {
    inner = images.filter(({ path }) => path.length > root + 1);
    tops = new Set(inner.map(({ path }) => path[root]));
    deep = new Set(inner.filter(({ path }) => path.length > root + 2).map(({ path }) => path[root]));
    known = [...tops].filter((top) => [TRAIN, TEST, VALIDATION].some((names) => names.has(top.toLowerCase())));
    if (tops.size !== 1 || !deep.size || known.length) break;
    root += 1;
  }
  const kind = (names) => new Set(known.filter((top) => deep.has(top) && names.has(top.toLowerCase())));
  const train = kind(TRAIN);
  const validation = kind(VALIDATION);
  const test = kind(TEST);
  // Only train/ and test/ side by side, or alone, are splits: a class may be called "train" too.
  const some = train.size + test.size + validation.size > 0;
  const areSplits = some && (tops.size === known.length || (train.size > 0 && test.size + validation.size > 0));
  const odd = [...tops].filter((top) => !known.includes(top));
  if (areSplits && odd.length) {
    throw new Error(`Beside ${known.sort().join(" and ")} there are images in ${odd.join(", ")}. Put every class folder into train or test.`);
  }
  const measures = test.size ? test : validation;
  const depth = areSplits ? root + 1 : root;
  return images
    .filter(({ path }) => !areSplits || path.length <= depth + 1 || train.has(path[root]) || measures.has(path[root]))
    .map(({ path, file, name }) => ({
      file,
      name,
      className: path.length > depth + 1 ? path[depth] : null,
      split: areSplits && path.length > depth + 1 && measures.has(path[root]) ? "test" : "train",
    }));
}
