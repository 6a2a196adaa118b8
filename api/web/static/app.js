// Which view is shown, by the part of the address after "#": it survives a reload and can be sent to others.

import { h, replace } from "./lib/dom.js";
import { keyDialog } from "./components/key_dialog.js";
import { jobView } from "./views/job.js";
import { jobsView } from "./views/jobs.js";
import { modelsView } from "./views/models.js";
import { teachView } from "./views/train.js";
import { tryView } from "./views/try.js";
import { watchService } from "./lib/service_status.js";

const VIEWS = [
  [/^#?\/?$/, "#/", "Teach", teachView],
  [/^#\/try(?:\/(.+))?$/, "#/try", "Try", tryView],
  [/^#\/models$/, "#/models", "Models", modelsView],
  [/^#\/jobs$/, "#/jobs", "Jobs", jobsView],
  [/^#\/jobs\/(.+)$/, "#/jobs", "Job", jobView],
];

const main = document.getElementById("main");
let leave = new AbortController();

function show({ first = false } = {}) {
  leave.abort(); // whatever the last view was waiting for
  leave = new AbortController();
  const [match, link, title, view] = found();
  for (const anchor of document.querySelectorAll(".top nav a")) {
    if (anchor.getAttribute("href") === link) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title} · clipcite`;
  replace(main, view({ parameter: match[1] && decodeURIComponent(match[1]), signal: leave.signal }));
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function found() {
  for (const [pattern, link, title, view] of VIEWS) {
    const match = pattern.exec(location.hash);
    if (match) return [match, link, title, view];
  }
  const nowhere = () => h("section", {}, h("h1", {}, "There is nothing here"), h("a", { href: "#/" }, "Start again"));
  return [[], "", "Nothing here", nowhere];
}

addEventListener("hashchange", () => show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would be taken for a view's
  main.focus();
});
// A file that misses its place must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
keyDialog(() => show({ first: true }));
watchService();
show({ first: true });
