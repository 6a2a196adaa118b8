// One sorted image: a thumbnail that is made while it is in or near the view, and its class.

import { h } from "../../lib/dom.js";
import { classOf, NONE, sureness, wordsFor } from "../../lib/sorting/groups.js";
import { checked } from "../../lib/sorting/sorting.js";
import { percent } from "../../lib/words.js";

const MAX_CONCURRENT = 4;

const tiles = new WeakMap(); // functions that show the thumbnail, by element
const waiting = new Set(); // elements in or near the view; those that were scrolled past are left out
let busy = 0;
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) waiting.add(target);
    else waiting.delete(target);
  }
  next();
}, { rootMargin: "400px" });

function next() {
  for (const element of waiting) {
    if (busy >= MAX_CONCURRENT) return;
    waiting.delete(element);
    watcher.unobserve(element);
    busy += 1;
    tiles.get(element)().finally(() => {
      busy -= 1;
      next();
    });
  }
}

/** Create the tile of an image. */
export function tile(image) {
  const thumb = h("img", { alt: "", width: "96", height: "96", hidden: true, draggable: "false" });
  const blank = h("span", { class: "blank", "aria-hidden": "true" }, image.name);
  const words = h("span", { class: "tile-words", "aria-hidden": "true" });
  const element = h("li", { class: "tile", role: "option", tabindex: "-1", draggable: "true", title: image.name, "aria-selected": "false" }, blank, thumb, words);
  tiles.set(element, async () => {
    await checked(image);
    if (!image.url) return; // a format that this browser can't show
    thumb.src = image.url;
    thumb.hidden = false;
    blank.hidden = true;
  });
  watcher.observe(element);
  let shown = "";
  function refresh({ withClass, isPicked }) {
    element.setAttribute("aria-selected", String(isPicked));
    const group = classOf(image);
    const name = wordsFor(group);
    const sure = group && (image.label ? "✓" : group === NONE ? "" : percent(sureness(image)));
    const state = `${name} ${sure} ${withClass} ${image.error}`;
    if (state === shown) return;
    shown = state;
    element.classList.toggle("yours", Boolean(image.label));
    words.textContent = name ? `${sure}${withClass ? ` ${name}` : ""}` : "";
    words.hidden = !words.textContent;
    element.setAttribute("aria-label", `${image.name}, ${image.label ? `${name}, your correction` : name ? `${name} ${sure}`.trim() : image.error}`);
  }
  return { element, refresh };
}
