// A list that grows page by page.

import { h, replace } from "../lib/dom.js";
import { ask } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";

/** A list of what `path` gives. `item` makes the element of one; `empty` is shown when there is none. */
export function pagedList({ path, item, empty, signal }) {
  const list = h("ul", { class: "list" });
  const foot = h("div", {});
  async function load(after) {
    try {
      const page = await ask(`${path}?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`, { signal });
      list.append(...page.data.map((one) => h("li", { class: "card" }, item(one))));
      const more = h("button", { type: "button", class: "quiet", onclick: () => load(page.next_cursor) }, "Show more");
      if (page.has_more) replace(foot, more);
      else replace(foot, !list.children.length && h("div", { class: "card empty" }, empty));
    } catch (error) {
      if (error.name === "AbortError") return;
      const again = h("button", { type: "button", class: "quiet", onclick: () => load(after) }, "Try again");
      replace(foot, problemBox(error), again);
    }
  }
  load();
  return [list, foot];
}
