// A failure, in the service's words: what it is, and what to do.

import { h } from "./dom.js";

const MOST = 8;

/** Of an error or a sentence; `details` are what belongs to no single image on the page. */
export function problemBox(error, details = error.errors?.map((item) => (item.file ? `${item.file}: ${item.detail}` : item.detail)) ?? []) {
  const lines = details.filter((line) => line !== error.message);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, error.message ?? error),
    lines.length > 0 && h("ul", {}, lines.slice(0, MOST).map((line) => h("li", {}, line)), lines.length > MOST && h("li", {}, `and ${lines.length - MOST} more`)),
    error.status >= 500 && error.requestId && h("p", { class: "soft" }, "For the log: ", h("code", {}, error.requestId)),
  );
}
