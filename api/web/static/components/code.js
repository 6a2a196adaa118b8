// "Use in code": the current view as a program, in several languages.

import { h, newId } from "../lib/dom.js";
import { key } from "../lib/service/http.js";

let preferred = "curl"; // the language chosen last, for all boxes

/** Create a collapsible box with one tab per language. `curl`, `python` and `javascript` are text, or functions that
 *  return text; a missing one has no tab. `what` names the call for screen readers, in views with several boxes. */
export function codeFor({ what = "", curl, python, javascript }) {
  const snippets = Object.entries({ curl, Python: python, JavaScript: javascript })
    .filter(([, text]) => text)
    .map(([name, text]) => snippet(name, text, () => select(name)));
  const tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Language", onkeydown: step }, snippets.map(({ tab }) => tab));
  const box = h(
    "details",
    { class: "code" },
    h("summary", {}, "Use in code", what && h("span", { class: "unseen" }, `: ${what}`)),
    tabs,
    snippets.map(({ panel }) => panel),
  );

  function select(name) {
    preferred = name;
    const shown = snippets.find((item) => item.name === name) ?? snippets[0];
    for (const item of snippets) item.show(item === shown);
    return shown;
  }
  function step(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const at = snippets.findIndex(({ tab }) => tab === document.activeElement);
    const next = snippets.at((at + move) % snippets.length);
    select(next.name).tab.focus();
  }
  box.addEventListener("toggle", () => box.open && select(preferred));
  return box;
}

function snippet(name, text, choose) {
  const id = newId("code");
  const pre = h("pre", { tabindex: "0", "aria-label": name });
  const tab = h("button", { type: "button", role: "tab", class: "tab", "aria-controls": id, onclick: choose }, name);
  const button = h("button", { type: "button", class: "quiet small", "aria-label": `Copy ${name}`, onclick: copy }, "Copy");
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
    getSelection().selectAllChildren(pre);
    return document.execCommand("copy");
  }
}

/** Return a curl command; `options` are [option, value] pairs. */
export function curl(path, options = []) {
  const all = [...(key.get() ? [["-H", `"Authorization: Bearer ${key.isToken() ? "$(clipcite keys token)" : "$CLIPCITE_API_KEY"}"`, true]] : []), ...options];
  const words = all.map(([option, value, ready]) => (value === undefined ? option : `${option} ${ready ? value : quoted(value)}`));
  return [`curl -s ${quoted(location.origin + path)}`, ...words].join(" \\\n  ");
}

/** Return an alternative command as a comment, so that pasting all lines doesn't run it. */
export function orElse(purpose, command) {
  return `# to ${purpose}: ${command.replaceAll(" \\\n ", "")}`;
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Return a Python program with these lines, which may use `client`. Lines that are false are left out. */
export function python(lines) {
  const comment = key.get() && !key.isToken() ? "  # the key comes from CLIPCITE_API_KEY" : "";
  return ["from clipcite import Client", "", `client = Client(${JSON.stringify(location.origin)})${comment}`, ...lines.filter(Boolean)].join("\n");
}

/** Return a JavaScript program for Node 20 or newer: a request, and lines that use its JSON, `body`.
 *  `fields` are form fields; objects and lists are sent as JSON. `files` maps form fields to file names. */
export function javascript(path, { method = "GET", fields = null, files = {}, json = null, lines = ["console.log(body);"] } = {}) {
  const names = Object.entries(files);
  const headers = {
    ...(key.get() && { Authorization: key.isToken() ? "`Bearer ${token}`" : "`Bearer ${process.env.CLIPCITE_API_KEY}`" }),
    ...(json && { "Content-Type": '"application/json"' }),
  };
  const options = [
    method !== "GET" && `method: "${method}"`,
    Object.keys(headers).length && `headers: { ${Object.entries(headers).map(([name, value]) => `${/\W/.test(name) ? `"${name}"` : name}: ${value}`).join(", ")} }`,
    fields && "body: form",
    json && `body: JSON.stringify(${JSON.stringify(json)})`,
  ].filter(Boolean);
  const value = (field) => (typeof field === "object" ? `JSON.stringify(${JSON.stringify(field)})` : JSON.stringify(String(field)));
  return [
    ...(names.length ? ['import { openAsBlob } from "node:fs";'] : []),
    ...(key.isToken() ? ['import { execSync } from "node:child_process";', 'const token = String(execSync("clipcite keys token")).trim();'] : []),
    ...(names.length || key.isToken() ? [""] : []),
    ...(fields ? ["const form = new FormData();"] : []),
    ...Object.entries(fields ?? {}).map(([name, field]) => `form.append("${name}", ${value(field)});`),
    ...names.map(([name, file]) => `form.append("${name}", await openAsBlob("${file}"), "${file}");`),
    `const response = await fetch(${JSON.stringify(location.origin + path)}${options.length ? `, { ${options.join(", ")} }` : ""});`,
    "const body = await response.json();",
    ...lines,
  ].join("\n");
}

/** Return the call that classifies an image in all languages. The options are those of /classify. */
export function classifyPrograms(options) {
  const { class_names: names, ...rest } = options;
  const fields = { ...rest, class_names: names };
  return {
    curl: curl("/classify", [...Object.entries(fields).map(([name, value]) => ["-F", `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`]), ["-F", "images=@image.jpg"]]),
    python: python(classifyLines(options)),
    javascript: javascript("/classify", {
      method: "POST",
      fields,
      files: { images: "image.jpg" },
      lines: ["for (const { class_name, probability } of body.results[0].predictions) console.log(class_name, probability);"],
    }),
  };
}

function classifyLines({ class_names: names, ...options }) {
  const plain = names.every((name) => typeof name === "string");
  const classes = plain ? names : Object.fromEntries(names.map((name) => (typeof name === "string" ? [name, null] : [name.name, name.prompts])));
  const rest = Object.entries(options).map(([name, value]) => `, ${name}=${literal(value)}`);
  return [
    `names = ${literal(classes)}  # any other class names work too`,
    `result = client.classify(["image.jpg"], names${rest.join("")})`,
    "for prediction in result.results[0].predictions:",
    "    print(prediction.class_name, prediction.probability)",
  ];
}

/** Return a value as a Python literal. */
export function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}
