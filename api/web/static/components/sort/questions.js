// What a pile asks: about one photo after the other, or about groups of photos that look alike.

import { groupWalk, walk } from "./walks.js";

/** @import { OpenPile } from "../../lib/sorting/pile.js" */

/** Create the acts that ask. `attempted` does something and shows its error; `done` is called after the last answer.
 *
 *  @param {OpenPile} pile
 *  @param {{ attempted: (act: () => Promise<unknown>) => Promise<unknown>, done: () => void, signal: AbortSignal }} options */
export function questions(pile, { attempted, done, signal }) {
	let isAsking = false;
	/** Ask something, unless a question is on its way: a large pile takes seconds. @param {() => Promise<unknown>} act */
	async function once(act) {
		if (isAsking) return;
		isAsking = true;
		await attempted(act);
		isAsking = false;
	}
	/** Ask about the photos that the service chooses: `ask=10` or `draw=20`. @param {string} query */
	const one = (query) =>
		once(async () => {
			const { ask = [] } = await pile.choose(query);
			if (!ask.length) throw new Error("There are no photos to ask about: all have an answer.");
			await walk(pile, ask, "chosen", signal);
			done();
		});
	const group = () =>
		once(async () => {
			for (let again = true; again; ) {
				const { groups = [] } = await pile.choose(`groups=${pile.photos.length}`); // all: there are fewer groups
				if (!groups.length)
					throw new Error(
						"There are no groups to ask about: the photos are too few, or most have an answer. Select the others, and move them to a class.",
					);
				again = await groupWalk(pile, groups, signal);
			}
			done();
		});
	return { one, group };
}
