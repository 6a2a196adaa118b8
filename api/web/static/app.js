// Router: selects the view by the URL fragment, so views survive a reload and can be linked.

import { pageFrame } from "./components/frame.js";
import { keyDialog } from "./components/key_dialog.js";
import { byId, h, replace } from "./lib/dom.js";
import { problemBox } from "./lib/problem.js";
import { takeToken } from "./lib/service/http.js";
import { jobView } from "./views/job.js";
import { jobsView } from "./views/jobs.js";
import { modelsView } from "./views/models.js";
import { trainView } from "./views/train.js";
import { tryView } from "./views/try.js";

/** @type {[RegExp, string, string, View][]} */
const VIEWS = [
	[/^#?\/?$/, "#/", "Train", trainView],
	[/^#\/try(?:\/(.+))?$/, "#/try", "Try", tryView],
	[/^#\/sort(?:(?:\/|\?model=)(.+))?$/, "#/sort", "Sort", sortView],
	[/^#\/models$/, "#/models", "Models", modelsView],
	[/^#\/jobs$/, "#/jobs", "Jobs", jobsView],
	[/^#\/jobs\/(.+)$/, "#/jobs", "Job", jobView],
];

/** @typedef {(options: { parameter: string, signal: AbortSignal }) => HTMLElement} View */

/** Show the Sort view. Its modules are loaded when it is opened first, since others never need them. @type {View} */
function sortView(options) {
	const place = h("section", { class: "sort" });
	import("./views/sort.js").then(
		(view) => options.signal.aborted || place.replaceWith(view.sortView(options)),
		() => replace(place, problemBox("Can't load this view: the service may be restarting. Reload the page.")),
	);
	return place;
}

const main = byId("main");
let leave = new AbortController();

function show({ first = false } = {}) {
	leave.abort(); // cancels the previous view's requests
	leave = new AbortController();
	const [match, link, title, view] = currentRoute();
	for (const anchor of document.querySelectorAll(".top nav a")) {
		if (anchor.getAttribute("href") === link) anchor.setAttribute("aria-current", "page");
		else anchor.removeAttribute("aria-current");
	}
	document.title = `${title} · clipcite`;
	replace(main, view({ parameter: match[1], signal: leave.signal }));
	if (!first) {
		scrollTo(0, 0);
		main.focus({ preventScroll: true });
	}
}

/** @returns {[string[], string, string, View]} */
function currentRoute() {
	for (const [pattern, link, title, view] of VIEWS) {
		const match = pattern.exec(location.hash);
		if (!match) continue;
		try {
			return [match.map((part) => part && decodeURIComponent(part)), link, title, view];
		} catch {
			break; // a broken link, such as "#/jobs/%"
		}
	}
	return [[], "", "Not found", notFoundView];
}

function notFoundView() {
	return h(
		"section",
		{},
		h("h1", {}, "There is nothing here"),
		h("p", { class: "lede" }, "The link is incomplete or out of date."),
		h("a", { class: "button main", href: "#/" }, "Train a model"),
	);
}

addEventListener("hashchange", () => {
	if (takeToken()) closeKeyDialog();
	show();
});
byId("skip").addEventListener("click", (event) => {
	event.preventDefault(); // the router would take the fragment for a view
	main.focus();
});
// A file dropped outside a drop zone must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
takeToken();
const closeKeyDialog = keyDialog(() => show({ first: true }));
pageFrame();
show({ first: true });
