// Asking for answers.

import { ask } from "./http.js";
import { smaller } from "./image_check.js";

const LARGE_BYTES = 600_000;
const SIDE = 1024; // pixels: far more than any network looks at

/** POST /classify with these images and options. */
export async function classify(images, options, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) {
    form.append(name, name === "class_names" ? JSON.stringify(value) : String(value));
  }
  for (const image of images) form.append("images", await sendable(image), image.name);
  return ask("/classify", { method: "POST", body: form, signal });
}

/** The file, or a smaller copy of a large photo: it is sent again at each move of the slider. */
function sendable(image) {
  image.sendable ??= image.file.size > LARGE_BYTES ? shrunk(image.file) : Promise.resolve(image.file);
  return image.sendable;
}

async function shrunk(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file; // what this browser can't read the service may
  }
  const copy = await smaller(bitmap, SIDE, "image/jpeg", 0.92);
  bitmap.close();
  return copy;
}
