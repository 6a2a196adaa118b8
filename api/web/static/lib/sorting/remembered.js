// What this browser remembers of images, by the hash of the file: which were skipped, and the labels of a check.

import { hashOf } from "../training/image_check.js";
import { NONE } from "./groups.js";

const STORED = "clipcite-sort";
const stored = () => JSON.parse(localStorage.getItem(STORED) ?? "{}");

/** Set the hash of the image, unless its file can't be read any more. */
export async function hashed(image) {
  image.hash ??= await hashOf(image.file).catch(() => null);
}

/** Return the entries of these images, by image. `entries` are found by hash, and have the `bytes` of the file. Only
 *  files of such a size are read. */
export async function found(images, entries, signal) {
  const sizes = new Set([...entries.values()].map(({ bytes }) => bytes));
  const known = new Map();
  for (const image of images.filter(({ file }) => sizes.has(file.size))) {
    await hashed(image);
    if (signal?.aborted) break;
    if (entries.has(image.hash)) known.set(image, entries.get(image.hash));
  }
  return known;
}

/** Remember the images, or forget those that are neither skipped nor checked any more. */
export async function note(images) {
  const changed = images.filter(({ skipped, held, noted }) => skipped || held || noted);
  if (!changed.length) return;
  await Promise.all(changed.map(hashed));
  const all = stored();
  for (const image of changed) {
    const { hash, file, label, skipped, held } = image;
    if (!hash) continue;
    image.noted = Boolean(skipped || held);
    if (image.noted) all[hash] = { bytes: file.size, skipped, held, label: held && label ? { name: label === NONE ? null : label } : null };
    else delete all[hash];
  }
  localStorage.setItem(STORED, JSON.stringify(all));
}

/** Set what is remembered of new images. */
export async function recallNoted(images) {
  for (const [image, { skipped, held, label }] of await found(images, new Map(Object.entries(stored())))) {
    if (image.label) continue;
    Object.assign(image, { skipped, held, noted: true, label: label && (label.name ?? NONE) });
  }
}
