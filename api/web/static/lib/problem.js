// Error box: the message of the service and its details.

import { h, replace } from "./dom.js";

const MAX_LINES = 8;

/** Return the place of the page that stands for an action's request: its name and address. Null without one.
 *
 *  @param {Schemas["ProblemAction"]} action */
function placeOf({ operation, parameters: { job_id: job } }) {
	const resource = operation.split(/[/ ]+/)[1];
	if (resource === "jobs")
		return job ? ["the page of the job", `#/jobs/${encodeURIComponent(job)}`] : ["Jobs", "#/jobs"];
	return { models: ["Models", "#/models"], adapt: ["Train", "#/train"], backbones: ["Models", "#/models"] }[resource];
}

/** Return a message with links in place of the requests of its actions.
 *
 *  @param {string} message @param {Schemas["ProblemAction"][]} [actions] @returns {Child[]} */
function linked(message, actions = []) {
	/** @type {Child[]} */
	let parts = [message];
	for (const action of actions) {
		const place = placeOf(action);
		if (!place) continue;
		parts = parts.flatMap((part) =>
			typeof part !== "string"
				? [part]
				: part.split(action.request).flatMap((text, i) => (i ? [h("a", { href: place[1] }, place[0]), text] : [text])),
		);
	}
	return parts;
}

/** Create an error box from an error or a string. `details` are the lines that belong to no image on the page.
 *
 *  @param {any} error @param {string[]} [details] */
export function problemBox(
	error,
	details = error.errors?.map((item) => (item.file ? `${item.file}: ${item.detail}` : item.detail)) ?? [],
) {
	// The key dialog says what to do, so an error box behind it would only alarm.
	if (error.status === 401) return h("p", { class: "soft" }, "An API key is needed: use the button Key above.");
	const lines = details.filter((line) => line !== error.message);
	const shown = lines.slice(0, MAX_LINES).map((line) => h("li", {}, line));
	if (lines.length > MAX_LINES) shown.push(h("li", {}, `and ${lines.length - MAX_LINES} more`));
	return h(
		"div",
		{ class: "problem", role: "alert" },
		h("p", {}, linked(error.message ?? error, error.actions)),
		shown.length > 0 && h("ul", {}, shown),
		error.status >= 500 && error.requestId && h("p", { class: "soft" }, "Request ID: ", h("code", {}, error.requestId)),
	);
}

/** Create the error box for a drop or a choice without images. */
export function noImagesBox() {
	return problemBox("No images found. Supported formats: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC.");
}

/** Do something, and show its error in `place`, which begins empty. Returns nothing after an error.
 *
 *  @template T @param {Element} place @param {() => Promise<T>} act @returns {Promise<T | undefined>} */
export async function attempt(place, act) {
	replace(place);
	try {
		return await act();
	} catch (error) {
		showProblem(place, error);
		return undefined;
	}
}

/** Attempt what a button does. It is disabled meanwhile.
 *
 *  @param {HTMLButtonElement} button @param {Element} place @param {() => Promise<unknown>} act */
export async function pressed(button, place, act) {
	button.disabled = true;
	await attempt(place, act);
	button.disabled = false;
}

/** Show the error in `place`, unless its request was cancelled. @param {Element} place @param {any} error */
export function showProblem(place, error) {
	if (error.name !== "AbortError") replace(place, problemBox(error));
}
