// Note on a model to which its name does not refer, because it is worse than the pre-trained one.

import { announce, button, h, replace } from "../lib/dom.js";
import { attempt } from "../lib/problem.js";
import { call } from "../lib/service/http.js";

/** Create the note; null if the name may refer to the model. `used` is called after the promotion.
 *
 *  @param {{ id: string, name?: string | null, not_promoted?: Schemas["Notice"] | null }} model
 *  @param {() => void} [used] */
export function notInUse({ id, name, not_promoted: reason }, used) {
	if (!name || !reason) return null;
	const trouble = h("div", {});
	const element = h(
		"div",
		{ class: "not-in-use" },
		h("p", {}, `Not in use: ${reason.detail[0].toLowerCase()}${reason.detail.slice(1)}`),
		button("Use it all the same", use, "quiet"),
		trouble,
	);
	function use() {
		return attempt(trouble, async () => {
			await call(`/models/${encodeURIComponent(id)}`, { method: "PATCH", json: { promoted: true } });
			const words = `Programs that ask for ${name} get this model now.`;
			replace(element, h("p", {}, words));
			announce(words);
			used?.();
		});
	}
	return element;
}
