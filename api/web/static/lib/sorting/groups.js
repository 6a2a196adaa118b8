// Groups of a pile's photos as the page shows them: the unsure ones, one group per class, something else, and the others.

export const UNSURE = "unsure";
export const ELSE = "else";
export const OPEN = "open";

/** Class of a photo that belongs to no class, and answer "none of these". No name that a person types is equal to it.
 *
 *  @type {symbol} */
export const NONE = Symbol("none of these");

/** Keys of the first ten classes. */
export const DIGITS = [..."1234567890"];

/** Return the class of a pressed key, if it has one. @param {string[]} names @param {string} key */
export const classOfKey = (names, key) => (key.toLowerCase() === "x" ? NONE : names[DIGITS.indexOf(key)]);

/** Return the words for a class; null without one. @param {Label | undefined} name */
export const wordsFor = (name) => (typeof name === "symbol" ? "something else" : name || null);

/** Return the class that a person gave to the photo; null without one. @param {Photo} photo @returns {Label} */
export function labelOf({ answer }) {
	return answer?.said === "none" ? NONE : answer?.said === "class" ? answer.class_name : null;
}

/** Return the class of a photo: the person's, else that of the sort. Null without one. @param {Photo} photo @returns {Label} */
export function classOf(photo) {
	const { place } = photo;
	return labelOf(photo) ?? (place?.something_else ? NONE : place?.class_name) ?? null;
}

/** Return the probability of the class, which is 1 for a person's answer. @param {Photo} photo */
export const sureness = (photo) => (labelOf(photo) ? 1 : (photo.place?.probability ?? 0));

/** Say whether the sort alone gave the class. @param {Photo} photo */
export const isGuess = (photo) => !labelOf(photo) && classOf(photo) !== null;

/** Return the groups [{kind, name, photos}], each with the least certain photo first. `kind` is "unsure" (below the
 *  threshold), "class", "else" or "open" (without a class). Classes without photos have a group if they are among `names`.
 *
 *  @param {Photo[]} photos @param {string[]} names @param {number} threshold */
export function groupsOf(photos, names, threshold) {
	/** @type {Map<string, Photo[]>} */
	const classes = new Map(names.map((name) => [name, []]));
	/** @type {Record<string, Photo[]>} */
	const others = { [UNSURE]: [], [ELSE]: [], [OPEN]: [] };
	for (const photo of photos.toSorted((a, b) => sureness(a) - sureness(b))) {
		const name = classOf(photo);
		if (name === null) others[OPEN].push(photo);
		else if (typeof name === "symbol") others[ELSE].push(photo);
		else if (isGuess(photo) && sureness(photo) < threshold) others[UNSURE].push(photo);
		else if (classes.has(name)) classes.get(name)?.push(photo);
		else classes.set(name, [photo]);
	}
	others[ELSE].sort(
		(a, b) =>
			Number(Boolean(labelOf(a))) - Number(Boolean(labelOf(b))) || (b.place?.score ?? 0) - (a.place?.score ?? 0),
	);
	return [
		...(names.length ? [{ kind: UNSURE, name: "Unsure", photos: others[UNSURE] }] : []),
		...[...classes].map(([name, members]) => ({ kind: "class", name, photos: members })),
		...(others[ELSE].length ? [{ kind: ELSE, name: "Something else", photos: others[ELSE] }] : []),
		...(others[OPEN].length ? [{ kind: OPEN, name: "Not sorted", photos: others[OPEN] }] : []),
	];
}
