// A check of the sort: some images drawn at random, what their labels say about all, and whether a change may be chance.

import { classOf } from "./groups.js";

const ALPHA = 0.05;

/** Draw `count` of the items, each set of them with the same probability.
 *
 *  @template T @param {T[]} items @param {number} count */
export function drawn(items, count) {
	const rest = [...items];
	return Array.from(
		{ length: Math.min(count, rest.length) },
		() => rest.splice(Math.floor(Math.random() * rest.length), 1)[0],
	);
}

/** Return the 95% confidence interval [low, high] of the share of right ones among `all`, if `right` of `count` are that were
 *  drawn without replacement. Exact, like the interval of C. Clopper and E. Pearson (Biometrika 1934), for the hypergeometric
 *  distribution: the shares for which neither so few nor so many right ones are rarer than 2.5%.
 *
 *  @param {number} right @param {number} count @param {number} all @returns {[number, number]} */
export function shareInterval(right, count, all) {
	return [fewest(right, count, all) / all, 1 - fewest(count - right, count, all) / all];
}

/** Return the smallest number of right ones among `all` with which `right` or more of `count` are not too rare.
 *
 *  @param {number} right @param {number} count @param {number} all */
function fewest(right, count, all) {
	/** @param {number} total */
	const isEnough = (total) => {
		let chance = 0;
		for (let k = right; k <= count; k += 1)
			chance += Math.exp(logWays(total, k) + logWays(all - total, count - k) - logWays(all, count));
		return chance > ALPHA / 2;
	};
	let [low, high] = [right, all - count + right]; // the chance grows with the total
	while (low < high) {
		const middle = Math.floor((low + high) / 2);
		if (isEnough(middle)) high = middle;
		else low = middle + 1;
	}
	return low;
}

/** Return the logarithm of the number of ways to choose k of n. @param {number} n @param {number} k */
function logWays(n, k) {
	if (k < 0 || k > n) return -Infinity;
	let sum = 0;
	for (let i = 1; i <= k; i += 1) sum += Math.log((n - k + i) / i);
	return sum;
}

/** Say whether chance explains a change by which some images became right and some wrong (sign test, two-sided).
 *
 *  @param {number} gained @param {number} lost */
export function isChance(gained, lost) {
	const changed = gained + lost;
	let tail = 0;
	for (let k = Math.max(gained, lost); k <= changed; k += 1) tail += Math.exp(logWays(changed, k) - changed * Math.LN2);
	return 2 * tail > ALPHA;
}

/** Return whether the sort is right, by checked image. It is judged by the class that it gives without the label. @param {SortedImage[]} images */
export function judged(images) {
	const known = images.filter(({ held, label, predictions }) => held && label && predictions);
	return new Map(known.map((image) => [image, classOf({ ...image, label: null }) === image.label]));
}
