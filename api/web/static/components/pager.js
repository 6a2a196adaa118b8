// Paginated list. The next page loads when its button comes into view.

import { button, h, replace } from "../lib/dom.js";
import { problemBox } from "../lib/problem.js";
import { requestJson } from "../lib/service/http.js";
import { whenSeen } from "./when_seen.js";

/** Create a list of the objects at `path`. `item` renders one, or returns null for an object that another one shows;
 *  `empty` is shown for an empty list.
 *
 *  @template {"/jobs" | "/models" | "/piles"} Path
 *  @param {{ path: Path, item: (row: Answer<Path>["data"][number]) => Child, empty: Child, signal: AbortSignal }} options */
export function pagedList({ path, item, empty, signal }) {
	const list = h("ul", { class: "list" });
	const foot = h("div", {});
	let loading = false;
	async function load(after) {
		if (loading) return;
		loading = true;
		try {
			const page = await requestJson(`${path}?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`, {
				signal,
			});
			list.append(
				...page.data
					.map(item)
					.filter(Boolean)
					.map((content) => h("li", { class: "card" }, content)),
			);
			if (page.has_more)
				replace(
					foot,
					moreButton(() => load(page.next_cursor)),
				);
			else replace(foot, !list.children.length && h("div", { class: "card empty" }, empty));
		} catch (error) {
			if (error.name === "AbortError") return;
			const retry = button("Try again", () => load(after));
			replace(foot, problemBox(error), retry);
		} finally {
			loading = false;
		}
	}
	load();
	return [list, foot];
}

function moreButton(load) {
	const more = button("Show more", load);
	whenSeen(more, async () => more.isConnected && load()); // it may have been pressed before its turn
	return more;
}
