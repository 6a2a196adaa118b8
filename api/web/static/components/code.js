// "Use in code": the current view as a program, in several languages.

import { h, newId, unseen } from "../lib/dom.js";
import { key } from "../lib/service/http.js";

/** @typedef {string | (() => string)} Snippet */

let preferred = "curl"; // the language chosen last, for all boxes

/** Create a collapsible box with one tab per language. `curl`, `python` and `javascript` are text, or functions that
 *  return text; a missing one has no tab. `what` names the call for screen readers, in views with several boxes.
 *
 *  @param {{ what?: string, curl?: Snippet, python?: Snippet, javascript?: Snippet }} programs */
export function codeFor({ what = "", curl, python, javascript }) {
	const snippets = Object.entries({ curl, Python: python, JavaScript: javascript }).flatMap(([name, text]) =>
		text ? [snippet(name, text, () => select(name))] : [],
	);
	const tabs = h(
		"div",
		{ class: "tabs", role: "tablist", "aria-label": "Language", onkeydown: step },
		snippets.map(({ tab }) => tab),
	);
	const box = h(
		"details",
		{ class: "code" },
		h("summary", {}, "Use in code", what && unseen(`: ${what}`)),
		tabs,
		snippets.map(({ panel }) => panel),
	);

	/** @param {string} name */
	function select(name) {
		preferred = name;
		const shown = snippets.find((item) => item.name === name) ?? snippets[0];
		for (const item of snippets) item.show(item === shown);
		return shown;
	}
	/** @param {KeyboardEvent} event */
	function step(event) {
		const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
		if (!move) return;
		event.preventDefault();
		const at = snippets.findIndex(({ tab }) => tab === document.activeElement);
		const next = snippets.at((at + move) % snippets.length) ?? snippets[0];
		select(next.name).tab.focus();
	}
	box.addEventListener("toggle", () => box.open && select(preferred));
	return box;
}

/** @param {string} name @param {Snippet} text @param {() => void} choose */
function snippet(name, text, choose) {
	const id = newId("code");
	const pre = h("pre", { tabindex: "0", "aria-label": name });
	const tab = h("button", { type: "button", role: "tab", class: "tab", "aria-controls": id, onclick: choose }, name);
	const button = h(
		"button",
		{ type: "button", class: "quiet small", "aria-label": `Copy ${name}`, onclick: copy },
		"Copy",
	);
	const panel = h("div", { class: "snippet", role: "tabpanel", id, hidden: true }, button, pre);
	const refresh = () => {
		pre.textContent = typeof text === "function" ? text() : text;
	};
	async function copy() {
		refresh();
		button.textContent = (await copied(pre)) ? "Copied" : "Select the text and copy it";
		setTimeout(() => (button.textContent = "Copy"), 2500);
	}
	function show(shown) {
		if (shown) refresh();
		panel.hidden = !shown;
		tab.setAttribute("aria-selected", String(shown));
		tab.tabIndex = shown ? 0 : -1;
	}
	return { name, tab, panel, show };
}

async function copied(pre) {
	try {
		await navigator.clipboard.writeText(pre.textContent);
		return true;
	} catch {
		// navigator.clipboard is missing over plain http from another machine.
		getSelection()?.selectAllChildren(pre);
		return document.execCommand("copy");
	}
}

/** Return a curl command; `options` are [option, value] pairs.
 *
 *  @param {string} path @param {[string, string?][]} [options] */
export function curl(path, options = []) {
	const words = options.map(([option, value]) => (value === undefined ? option : `${option} ${quoted(value)}`));
	const secret = key.isToken() ? "$(clipcite keys token)" : "$CLIPCITE_API_KEY";
	if (key.get()) words.unshift(`-H "Authorization: Bearer ${secret}"`);
	return [`curl -s ${quoted(location.origin + path)}`, ...words].join(" \\\n  ");
}

/** @param {string} text */
function quoted(text) {
	return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Return a Python program with these lines, which may use `client`. Lines that are false are left out.
 *
 *  @param {(string | false)[]} lines */
export function python(lines) {
	const comment = key.get() && !key.isToken() ? "  # the key comes from CLIPCITE_API_KEY" : "";
	return [
		"from clipcite import Client",
		"",
		`client = Client(${JSON.stringify(location.origin)})${comment}`,
		...lines.filter(Boolean),
	].join("\n");
}

/** Return a JavaScript program for Node 20 or newer: a request, and lines that use its JSON, `body`.
 *  `fields` are form fields; objects and lists are sent as JSON. `files` maps form fields to file names.
 *
 *  @param {string} path
 *  @param {{ method?: string, fields?: Record<string, any> | null, files?: Record<string, string>, lines: string[] }} options */
export function javascript(path, { method = "GET", fields = null, files = {}, lines }) {
	const names = Object.entries(files);
	const secret = key.isToken() ? "token" : "process.env.CLIPCITE_API_KEY";
	const options = [
		method !== "GET" && `method: "${method}"`,
		key.get() && `headers: { Authorization: \`Bearer \${${secret}}\` }`,
		fields && "body: form",
	].filter(Boolean);
	const value = (field) =>
		typeof field === "object" ? `JSON.stringify(${JSON.stringify(field)})` : JSON.stringify(String(field));
	return [
		...(names.length ? ['import { openAsBlob } from "node:fs";'] : []),
		...(key.isToken()
			? [
					'import { execSync } from "node:child_process";',
					'const token = String(execSync("clipcite keys token")).trim();',
				]
			: []),
		...(names.length || key.isToken() ? [""] : []),
		...(fields ? ["const form = new FormData();"] : []),
		...Object.entries(fields ?? {}).map(([name, field]) => `form.append("${name}", ${value(field)});`),
		...names.map(([name, file]) => `form.append("${name}", await openAsBlob("${file}"), "${file}");`),
		`const response = await fetch(${JSON.stringify(location.origin + path)}${options.length ? `, { ${options.join(", ")} }` : ""});`,
		"const body = await response.json();",
		...lines,
	].join("\n");
}

/** Return the call that classifies an image in all languages. `options` as /classify takes them. @param {Options} options */
export function classifyPrograms(options) {
	const { class_names: names, ...rest } = options;
	const fields = { ...rest, class_names: names };
	const text = (value) => (typeof value === "object" ? JSON.stringify(value) : value);
	/** @type {[string, string][]} */
	const form = Object.entries(fields).map(([name, value]) => ["-F", `${name}=${text(value)}`]);
	return {
		curl: curl("/classify", [...form, ["-F", "images=@image.jpg"]]),
		python: python(classifyLines(options)),
		javascript: javascript("/classify", {
			method: "POST",
			fields,
			files: { images: "image.jpg" },
			lines: [
				"for (const { class_name, probability } of body.results[0].predictions) console.log(class_name, probability);",
			],
		}),
	};
}

/** @param {Options} options */
function classifyLines({ class_names: names, ...options }) {
	const plain = names.every((name) => typeof name === "string");
	const classes = plain
		? names
		: Object.fromEntries(names.map((name) => (typeof name === "string" ? [name, null] : [name.name, name.prompts])));
	const rest = Object.entries(options).map(([name, value]) => `, ${name}=${literal(value)}`);
	return [
		`names = ${literal(classes)}  # any other class names work too`,
		`result = client.classify(["image.jpg"], names${rest.join("")})`,
		"for prediction in result.results[0].predictions:",
		"    print(prediction.class_name, prediction.probability)",
	];
}

/** Return a value as a Python literal. @param {any} value @returns {string} */
export function literal(value) {
	if (value === null || value === undefined) return "None";
	if (value === true) return "True";
	if (value === false) return "False";
	if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
	if (typeof value === "object") {
		return `{${Object.entries(value)
			.map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`)
			.join(", ")}}`;
	}
	return JSON.stringify(value);
}
