// Sort view: the piles, or one of them. A pile's photos are in groups by class, and answers count in the groups at once.

import { pileList } from "../components/sort/pile_list.js";
import { PileView } from "../components/sort/pile_view.js";
import { h } from "../lib/dom.js";

const style = h("link", { rel: "stylesheet", href: "/page/styles/sort.css" });
await new Promise((done) => {
	style.onload = style.onerror = done;
	document.head.append(style);
});

/** Show the pile with this id, or the list of piles. Other parameters are models, for a new pile.
 *
 *  @param {{ parameter?: string, signal: AbortSignal }} options */
export function sortView({ parameter, signal }) {
	return parameter?.startsWith("pil_")
		? new PileView(parameter, signal).element
		: pileList({ model: parameter, signal });
}
