// Groups of sorted images: the unsure ones, one group per class, something else, and those that can't be read.

export const UNSURE = "unsure";
export const ELSE = "else";
export const UNREAD = "unread";

/** Class of an image that belongs to no class, and label "none of these". No name that a person types is equal to it.
 *
 *  @type {symbol} */
export const NONE = Symbol("none of these");
const LOST = 0.05; // share of the classes' own images that the service calls something else

/** Keys of the first ten classes. */
export const DIGITS = [..."1234567890"];

/** Return the class of a pressed key, if it has one. @param {string[]} names @param {string} key */
export const classOfKey = (names, key) => (key.toLowerCase() === "x" ? NONE : names[DIGITS.indexOf(key)]);

/** Return the words for a class; null without one. @param {Label | undefined} name */
export const wordsFor = (name) => (typeof name === "symbol" ? "something else" : name || null);

/** Return the class of an image: the person's label, else NONE or the most likely one. Null without an answer.
 *
 *  @param {SortedImage} image @returns {Label} */
export function classOf({ label, rejected, predictions }) {
	return label ?? (rejected ? NONE : predictions?.[0].class_name) ?? null;
}

/** Return the probability that the class of an image is right, which is 1 for the person's label. @param {SortedImage} image */
export function sureness({ label, predictions }) {
	return label ? 1 : (predictions?.[0].probability ?? 0);
}

/** Say whether the image has an answer and no label. @param {SortedImage} image */
export const isGuess = ({ label, predictions }) => !label && Boolean(predictions);

/** Return the images without a label that belong to a class with a probability below the threshold.
 *
 *  @param {SortedImage[]} images @param {number} threshold */
export function unsureOf(images, threshold) {
	return images.filter((image) => isGuess(image) && !image.rejected && sureness(image) < threshold);
}

/** Return the images that belong to no class: by the person's label, or by the answer. @param {SortedImage[]} images */
export const elseOf = (images) => images.filter((image) => classOf(image) === NONE);

/** Return the groups [{kind, name, images}], each with the least certain image first. `kind` is "unsure", "class", "else"
 *  or "unread". Classes without images have a group if they are among `names`.
 *
 *  @param {SortedImage[]} images @param {string[]} names @param {number} threshold */
export function groupsOf(images, names, threshold) {
	const unsure = new Set(unsureOf(images, threshold));
	const answered = images.filter(classOf).sort((a, b) => sureness(a) - sureness(b));
	/** @type {Map<string, SortedImage[]>} */
	const classes = new Map(names.map((name) => [name, []]));
	for (const image of answered) {
		const name = classOf(image);
		if (unsure.has(image) || typeof name !== "string") continue;
		const members = classes.get(name);
		if (members) members.push(image);
		else classes.set(name, [image]);
	}
	const others = elseOf(images).sort(
		(a, b) => Number(Boolean(a.label)) - Number(Boolean(b.label)) || b.likeness - a.likeness,
	);
	const unread = images.filter(({ label, error }) => error && !label);
	return [
		{ kind: UNSURE, name: "Unsure", images: answered.filter((image) => unsure.has(image)) },
		...[...classes].map(([name, members]) => ({ kind: "class", name, images: members })),
		...(others.length ? [{ kind: ELSE, name: "Something else", images: others }] : []),
		...(unread.length ? [{ kind: UNREAD, name: "Can't be read", images: unread }] : []),
	];
}

/** Return how many images without a label are probably in a wrong group: what the probabilities lack to 1, and the classes'
 *  own images that are probably in something else.
 *
 *  @param {SortedImage[]} images */
export function likelyWrong(images) {
	const guesses = images.filter(isGuess);
	const kept = guesses.filter(({ rejected }) => !rejected);
	const lost = Math.min(guesses.length - kept.length, (kept.length * LOST) / (1 - LOST));
	return kept.reduce((sum, image) => sum + 1 - sureness(image), lost);
}
