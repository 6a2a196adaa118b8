// "Copy as curl or Python": the current view as a program.

import { h } from "../lib/dom.js";
import { key } from "../lib/http.js";

/** Create a collapsible box with the same call in both languages. `curl` and `python` are text, or functions that
 *  return text. `what` names the call in views with several boxes. */
export function codeFor({ what = "", curl, python }) {
  const boxes = [
    ["curl", curl],
    ["Python", python],
  ].map(([name, text]) => snippet(name, text));
  const box = h("details", { class: "code" }, h("summary", {}, `Copy as curl or Python${what && ": "}${what}`), boxes.map((b) => b.element));
  box.addEventListener("toggle", () => box.open && boxes.forEach((b) => b.refresh()));
  return box;
}

function snippet(name, text) {
  const pre = h("pre", { tabindex: "0", "aria-label": name });
  const refresh = () => {
    pre.textContent = typeof text === "function" ? text() : text;
  };
  const button = h("button", { type: "button", class: "quiet small", onclick: copy }, `Copy ${name}`);
  async function copy() {
    refresh();
    const done = await copied(pre);
    button.textContent = done ? "Copied" : "Select the text and copy it";
    setTimeout(() => (button.textContent = `Copy ${name}`), 2500);
  }
  return { element: h("div", { class: "snippet" }, h("span", { class: "language soft", "aria-hidden": "true" }, name), button, pre), refresh };
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
  const all = [...(key.get() ? [["-H", '"Authorization: Bearer $CLIPCITE_API_KEY"', true]] : []), ...options];
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
  const comment = key.get() ? "  # the key comes from CLIPCITE_API_KEY" : "";
  return ["from clipcite import Client", "", `client = Client(${JSON.stringify(location.origin)})${comment}`, ...lines.filter(Boolean)].join("\n");
}

/** Return Python lines that classify an image. The options are those of /classify. */
export function classifyLines({ class_names: names, ...options }) {
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
