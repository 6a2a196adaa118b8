// Corrections: images with their right class, kept with the model.

import { newKey } from "../ids.js";
import { call, requestJson, upload } from "../service/http.js";
import { hashOf } from "../training/image_check.js";
import { NONE } from "./groups.js";

const PART = 32; // images per request
const path = (model) => `/models/${encodeURIComponent(model)}`;
const keyOf = newKey();

/** Set the hash of the image, unless its file can't be read any more. */
async function hashed(image) {
  image.hash ??= await hashOf(image.file).catch(() => null);
}

/** Find the images that were corrected earlier, and set their labels. Returns their number. */
export async function recall(sorting, signal) {
  const model = sorting.model;
  const { data } = await requestJson(`${path(model)}/feedback`, { signal });
  if (!data.length) return 0;
  const known = new Map(data.map((entry) => [entry.sha256, entry]));
  const images = sorting.images.filter(({ label }) => !label);
  for (const image of images) {
    await hashed(image);
    if (sorting.model !== model || signal.aborted) return 0;
  }
  const found = images.filter(({ hash, label }) => !label && known.has(hash));
  for (const image of found) {
    const { id, class_name } = known.get(image.hash);
    image.saved = { model, id, class_name };
    image.label = class_name;
  }
  if (found.length) sorting.changed();
  return found.length;
}

/** Store the labels with the model, and remove those that were taken back. */
export async function save(sorting, signal) {
  const { model, unsaved } = sorting;
  const isKept = ({ label }) => label && label !== NONE;
  for (const image of unsaved.filter((image) => !isKept(image))) {
    if (image.saved.id) await call(`${path(model)}/feedback/${encodeURIComponent(image.saved.id)}`, { method: "DELETE", signal });
    image.saved = null;
  }
  const open = unsaved.filter(isKept);
  while (open.length) {
    const part = open.splice(0, PART);
    const form = new FormData();
    for (const { file, name } of part) form.append("images", file, name);
    for (const { label } of part) form.append("labels", label);
    const { data } = await upload(`${path(model)}/feedback`, form, { signal });
    for (const image of part) {
      await hashed(image);
      const found = data.find(({ sha256 }) => sha256 === image.hash); // none without a hash: then a label can only be replaced
      image.saved = { model, id: found?.id ?? null, class_name: image.label };
    }
  }
  sorting.changed();
}

/** Train again from the model's images and its corrections. Returns the job. */
export function trainAgain(sorting, signal) {
  const headers = { "Idempotency-Key": keyOf([sorting.model, sorting.training?.id, sorting.lessons.map(({ label, saved }) => [saved.id, label])]) };
  return upload(`${path(sorting.model)}/extend`, new FormData(), { headers, signal });
}

/** Train a model with the labelled images. Returns the job. */
export function trainFirst(sorting, onprogress, signal) {
  const form = new FormData();
  for (const { file, name, label } of sorting.lessons) {
    form.append("images", file, name);
    form.append("labels", label);
  }
  const headers = { "Idempotency-Key": keyOf([sorting.training?.id, sorting.lessons.map(({ path, file, label }) => [path, file.size, file.lastModified, label])]) };
  return upload("/adapt", form, { headers, onprogress, signal });
}

/** Note that the model was trained with these labels [[image, label]]. */
export function learned(labels, model) {
  for (const [image, label] of labels) image.saved = { model, id: null, class_name: label, learned: true };
}
