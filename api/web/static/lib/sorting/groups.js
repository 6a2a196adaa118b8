// Groups of sorted images: the unsure ones, one group per class, and those that can't be read.

export const UNSURE = "unsure";
export const UNREAD = "unread";

/** Keys of the first ten classes. */
export const DIGITS = [..."1234567890"];

/** Return the class name of a pressed key, if it has one. */
export const nameOfKey = (names, key) => names[DIGITS.indexOf(key)];

/** Return the class of an image: the person's label, else the most likely one. Null without an answer. */
export function classOf({ label, predictions }) {
  return label ?? predictions?.[0].class_name ?? null;
}

/** Return the probability that the class of an image is right, which is 1 for the person's label. */
export function sureness({ label, predictions }) {
  return label ? 1 : predictions[0].probability;
}

/** Say whether the image has an answer and no label. */
export const isGuess = ({ label, predictions }) => !label && Boolean(predictions);

/** Return the images without a label whose probability is below the threshold. */
export function unsureOf(images, threshold) {
  return images.filter((image) => isGuess(image) && sureness(image) < threshold);
}

/** Return the groups [{kind, name, images}], each with the least certain image first. `kind` is "unsure", "class" or
 *  "unread". Classes without images have a group if they are among `names`. */
export function groupsOf(images, names, threshold) {
  const unsure = new Set(unsureOf(images, threshold));
  const answered = images.filter(classOf).sort((a, b) => sureness(a) - sureness(b));
  const classes = new Map(names.map((name) => [name, []]));
  for (const image of answered) {
    if (unsure.has(image)) continue;
    if (!classes.has(classOf(image))) classes.set(classOf(image), []);
    classes.get(classOf(image)).push(image);
  }
  const unread = images.filter(({ label, error }) => error && !label);
  return [
    { kind: UNSURE, name: "Unsure", images: answered.filter((image) => unsure.has(image)) },
    ...[...classes].map(([name, members]) => ({ kind: "class", name, images: members })),
    ...(unread.length ? [{ kind: UNREAD, name: "Can't be read", images: unread }] : []),
  ];
}

/** Return how many images without a label are probably in a wrong class: the sum of their uncertainties. */
export function likelyWrong(images) {
  return images.filter(isGuess).reduce((sum, image) => sum + 1 - sureness(image), 0);
}
