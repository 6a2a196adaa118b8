// What the browser itself can tell of an image, before anything is sent.

const AT_ONCE = 4;
const THUMBNAIL = 168;
const SMALL = 32;
const BROWSERS_CANT = /\.(tiff?|heic|heif)$/i;

const waiting = [];
let busy = 0;

/** Sets `url` (a small preview), `width`, `height`, `hash` and `problem` of the image, a few at a time.
 *  Resolves when it is done. */
export function inspect(image) {
  return new Promise((resolve) => {
    waiting.push([image, resolve]);
    next();
  });
}

function next() {
  if (busy >= AT_ONCE || !waiting.length) return;
  const [image, resolve] = waiting.shift();
  busy += 1;
  look(image).finally(() => {
    busy -= 1;
    resolve();
    next();
  });
}

async function look(image) {
  image.hash = await hashOf(image.file);
  let bitmap;
  try {
    bitmap = await createImageBitmap(image.file);
  } catch {
    // What only this browser can't show may be fine for the service, which then has the last word.
    if (!BROWSERS_CANT.test(image.file.name)) {
      image.problem = { level: "bad", detail: "This can't be read as an image: it is damaged or something else." };
    }
    return;
  }
  image.width = bitmap.width;
  image.height = bitmap.height;
  if (Math.min(bitmap.width, bitmap.height) < SMALL) {
    image.problem = { level: "note", detail: `Only ${bitmap.width} × ${bitmap.height} pixels: too small to show much.` };
  }
  image.url = URL.createObjectURL(await smaller(bitmap, THUMBNAIL, "image/webp", 0.8));
  bitmap.close();
}

async function hashOf(file) {
  // Browsers offer it on this machine and with https only. Without it copies are found by the service.
  if (!globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The image with at most so many pixels a side, as a file of that type. */
export async function smaller(bitmap, side, type, quality) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  );
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  if (type === "image/jpeg") {
    pen.fillStyle = "#fff"; // what the service puts behind transparent images
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type, quality });
}

/** Notes copies, in one class or in two. */
export function markCopies(classes) {
  const first = new Map();
  for (const of of classes) {
    for (const image of of.images) {
      if (image.problem?.copy) image.problem = null;
      if (!image.hash) continue;
      const twin = first.get(image.hash);
      if (!twin) {
        first.set(image.hash, { of, image });
        continue;
      }
      image.problem ??= {
        copy: true,
        level: "note",
        detail: twin.of === of
          ? `A copy of ${twin.image.name}.`
          : `The same image is in “${twin.of.name}” too: one of the two must be wrong.`,
      };
    }
  }
}
