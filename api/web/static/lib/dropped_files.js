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

const SPLITS = { train: "train", training: "train", test: "test", testing: "test", val: "test", valid: "test", validation: "test" };
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;

/** The class and the part (train or test) of each image, by its folders: [{file, name, className, split}].
 *
 *  One or more folders around all of it are passed over, and so is what is no image. `className` is null
 *  for what lies in no folder. */
export function sorted(items) {
  const images = items.filter(
    ({ path, file }) =>
      !path.some((part) => part.startsWith(".") || part === "__MACOSX") &&
      (file.type.startsWith("image/") || IMAGE.test(file.name)),
  );
  images.sort((a, b) => a.path.join("/").localeCompare(b.path.join("/"), "en", { numeric: true }));
  const folders = images.map(({ path }) => path.slice(0, -1));
  let depth = 0;
  let split = "train";
  // A folder that all are in says nothing, unless images lie in it directly: then it is a class.
  while (folders.length && folders.every((f) => f.length > depth + 1 && f[depth] === folders[0][depth])) {
    split = SPLITS[folders[0][depth].toLowerCase()] ?? split;
    depth += 1;
  }
  const left = folders.map((folder) => folder.slice(depth));
  const isSplit = (folder) => folder.length > 1 && folder[0].toLowerCase() in SPLITS;
  const hasSplits = left.length > 0 && left.every(isSplit);
  return images.map(({ path, file }, i) => {
    const [first, second] = left[i];
    return {
      file,
      name: path.at(-1),
      className: (hasSplits ? second : first) ?? null,
      split: hasSplits ? SPLITS[first.toLowerCase()] : split,
    };
  });
}
