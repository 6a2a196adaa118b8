// What a person did, as answers of a pile.

import { NONE } from "./groups.js";

/** Return the answer that these photos have the class. @param {number[]} positions @param {Label} name @param {PileAnswer["how"]} how
 *
 *  @returns {PileAnswer} */
export function named(positions, name, how) {
	return typeof name === "string"
		? { positions, said: "class", class_name: name, how }
		: { positions, said: "none", how };
}

/** Return the answers of a group that got a name. Photos without a tick are not of that class. Members that were not shown
 *  are evidence alone. @param {Schemas["PileGroup"]} group @param {Set<number>} unticked positions @param {Label} name */
export function namedGroup({ shown, members }, unticked, name) {
	const seen = new Set(shown);
	const ticked = shown.filter((position) => !unticked.has(position));
	const wrong = shown.filter((position) => unticked.has(position));
	const unseen = members.filter((position) => !seen.has(position));
	return filled([named(ticked, name, "group"), notOf(wrong, name), named(unseen, name, "member")]);
}

/** Return the answer that these photos are not of the class; with NONE, that they are of one of the classes.
 *
 *  @param {number[]} positions @param {Label} name @returns {PileAnswer} */
export function notOf(positions, name) {
	return { positions, said: "not_class", class_name: name === NONE ? null : String(name), how: "group" };
}

/** Return the answers that restore what was said of the photos before.
 *
 *  @param {{ position: number, answer: Photo["answer"], not_classes: Photo["not_classes"] }[]} before */
export function restored(before) {
	/** @type {PileAnswer[]} */
	const answers = [{ positions: before.map(({ position }) => position), said: "withdrawn", how: "moved" }];
	for (const { position, answer, not_classes: excluded } of before) {
		const positions = [position];
		for (const name of excluded ?? []) answers.push(notOf(positions, name ?? NONE));
		if (answer && answer.said !== "not_class")
			answers.push(
				/** @type {PileAnswer} */ ({ positions, said: answer.said, class_name: answer.class_name, how: answer.how }),
			);
	}
	return answers;
}

/** @param {PileAnswer[]} answers */
const filled = (answers) => answers.filter(({ positions }) => positions.length);
