// Paginated list with a button for the next page.

import { h, replace } from "../lib/dom.js";
import { requestJson } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";

/** Create a list of the objects at `path`. `item` renders one; `empty` is shown for an empty list. */
export function pagedList({ path, item, empty, signal }) {
  const list = h("ul", { class: "list" });
  const foot = h("div", {});
  async function load(after) {
    try {
      const page = await requestJson(`${path}?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`, { signal });
      list.append(...page.data.map((entry) => h("li", { class: "card" }, item(entry))));
      const more = h("button", { type: "button", class: "quiet", onclick: () => load(page.next_cursor) }, "Show more");
      if (page.has_more) replace(foot, more);
      else replace(foot, !list.children.length && h("div", { class: "card empty" }, empty));
    } catch (error) {
      if (error.name === "AbortError") return;
      const retry = h("button", { type: "button", class: "quiet", onclick: () => load(after) }, "Try again");
      replace(foot, problemBox(error), retry);
    }
  }
  load();
  return [list, foot];
}
