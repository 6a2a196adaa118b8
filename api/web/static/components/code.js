// "Copy as curl / Python": the way from the page to a program.

import { h } from "../lib/dom.js";
import { key } from "../lib/http.js";

/** A fold-out with the same call in both. `curl` and `python` are text, or functions that give it; `what` is
 *  said where a view has more than one. */
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
    // Over plain http from another machine there is no clipboard; the old way is left.
    getSelection().selectAllChildren(pre);
    return document.execCommand("copy");
  }
}

/** A curl command: [option, value] pairs after the path. */
export function curl(path, options = []) {
  const all = [...(key.get() ? [["-H", '"Authorization: Bearer $CLIPCITE_API_KEY"', true]] : []), ...options];
  const words = all.map(([option, value, ready]) => (value === undefined ? option : `${option} ${ready ? value : quoted(value)}`));
  return [`curl -s ${quoted(location.origin + path)}`, ...words].join(" \\\n  ");
}

/** What else can be done, in a line that does nothing when all of it is pasted. */
export function orElse(words, command) {
  return `# to ${words}: ${command.replaceAll(" \\\n ", "")}`;
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A Python program around these lines (false is left out), which have `client`, the clipcite client of this service. */
export function python(lines) {
  const about = key.get() ? "  # the key comes from CLIPCITE_API_KEY" : "";
  return ["from clipcite import Client", "", `client = Client(${JSON.stringify(location.origin)})${about}`, ...lines.filter(Boolean)].join("\n");
}

/** Lines that ask what an image could be. Options as /classify has them. */
export function askLines({ class_names: names, ...options }) {
  const plain = names.every((of) => typeof of === "string");
  const given = plain ? names : Object.fromEntries(names.map((of) => (typeof of === "string" ? [of, null] : [of.name, of.prompts])));
  const rest = Object.entries(options).map(([name, value]) => `, ${name}=${literal(value)}`);
  return [
    `names = ${literal(given)}  # any others too`,
    `answer = client.classify(["image.jpg"], names${rest.join("")})`,
    "for guess in answer.results[0].predictions:",
    "    print(guess.class_name, guess.probability)",
  ];
}

/** A value as Python writes it. */
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
