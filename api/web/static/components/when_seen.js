// Work for elements that are in or near the view, at most four at a time.

const MAX_CONCURRENT = 4;

/** @type {WeakMap<Element, () => Promise<unknown>>} */
const acts = new WeakMap();
/** @type {Set<Element>} */
const waiting = new Set(); // in or near the view; those that were scrolled past are left out
let busy = 0;
const watcher = new IntersectionObserver(
	(entries) => {
		for (const { isIntersecting, target } of entries) {
			if (isIntersecting) waiting.add(target);
			else waiting.delete(target);
		}
		next();
	},
	{ rootMargin: "400px" },
);

/** Call the asynchronous `act` once, as soon as the element is in or near the view.
 *
 *  @param {Element} element @param {() => Promise<unknown>} act */
export function whenSeen(element, act) {
	acts.set(element, act);
	watcher.observe(element);
}

function next() {
	for (const element of waiting) {
		if (busy >= MAX_CONCURRENT) return;
		waiting.delete(element);
		watcher.unobserve(element);
		busy += 1;
		acts
			.get(element)?.()
			.finally(() => {
				busy -= 1;
				next();
			});
	}
}
