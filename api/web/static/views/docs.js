// The reference of the API, made from the document that the service gives.

import { h, replace } from "../lib/dom.js";
import { codeFor, curl, literal, python } from "../components/code.js";
import { ask } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";
import { exampleOf, fieldsOf, typeOf } from "../lib/openapi_schema.js";

async function draw() {
  const place = document.getElementById("reference");
  try {
    const document_ = await ask("/openapi.json");
    const groups = grouped(document_);
    replace(place, h("div", { class: "reference" }, contents(groups), h("div", {}, [...groups].map(([tag, all]) => section(tag, all, document_)))));
    document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  } catch (error) {
    replace(place, problemBox(error));
  }
}

const ORDER = ["adapt", "jobs", "models", "classify"]; // what most come for; all else follows

function grouped({ paths }) {
  const groups = new Map(ORDER.map((tag) => [tag, []]));
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ path, method, operation, id: `${method}${path.replaceAll(/[^\w]+/g, "-")}` });
    }
  }
  return groups;
}

function contents(groups) {
  const lists = [...groups].map(([tag, all]) => [
    h("h2", {}, tag),
    h("ul", {}, all.map(({ path, method, id }) => h("li", {}, h("a", { href: `#${id}` }, `${method.toUpperCase()} ${path}`)))),
  ]);
  return h("nav", { "aria-label": "Routes" }, lists);
}

function section(tag, operations, whole) {
  return h("section", {}, h("h2", {}, tag), operations.map((one) => article(one, whole)));
}

function article({ path, method, operation, id }, whole) {
  const body = Object.entries(operation.requestBody?.content ?? {});
  const answers = Object.entries(operation.responses ?? {});
  const good = answers.filter(([status]) => status < "4");
  const problems = answers.filter(([status]) => status >= "4");
  return h(
    "article",
    { class: "card operation", id },
    h("h3", {}, h("span", { class: `verb ${method}` }, method.toUpperCase()), h("code", {}, path)),
    paragraphs(operation.description ?? operation.summary ?? ""),
    operation.parameters?.length && [h("h4", {}, "Parameters"), table(operation.parameters.map((p) => ({ name: p.name, type: `${typeOf(p.schema, whole)}, in ${p.in}`, required: p.required, description: p.description ?? p.schema.description })))],
    body.map(([kind, { schema, example }]) => [
      h("h4", {}, "Body: ", h("code", {}, kind)),
      table(fieldsOf(schema, whole)),
      example && json(example, "An example of the body"),
    ]),
    good.map(([status, answer]) => [
      h("h4", {}, `Answer ${status}`),
      answer.description && answer.description !== "Successful Response" && paragraphs(answer.description),
      Object.entries(answer.content ?? {}).map(([kind, content]) => answerOf(kind, content, whole)),
    ]),
    problems.length > 0 && h("p", { class: "soft" }, "It may also answer ", problems.map(([status, { description }]) => `${status} ${description}`).join(", "), ", as ", h("code", {}, "application/problem+json"), " that says what to do."),
    code(path, method, body),
  );
}

function answerOf(kind, { schema, example }, whole) {
  const shown = example ?? exampleOf(schema, whole);
  const text = typeof shown === "string";
  const fields = fieldsOf(schema, whole);
  return h(
    "details",
    { class: "plain" },
    h("summary", {}, kind),
    fields.length > 0 && table(fields),
    shown !== undefined && (text ? h("pre", { tabindex: "0", "aria-label": "An example" }, shown) : json(shown, "An example of the answer")),
  );
}

function json(value, label) {
  return h("pre", { tabindex: "0", "aria-label": label }, JSON.stringify(value, null, 2));
}

function table(fields) {
  const row = ({ name, type, required, description }) => h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, type, required && h("span", { class: "soft" }, ", needed")), h("td", {}, spans(description ?? "")));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table of fields" },
    h("table", {}, h("thead", {}, h("tr", {}, ["Name", "Type", "Meaning"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, fields.map(row))),
  );
}

/** Text with `code` and **weight** in it, in paragraphs. */
function paragraphs(text) {
  return text.split(/\n\s*\n/).filter(Boolean).map((paragraph) => h("p", {}, spans(paragraph)));
}

function spans(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    return part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : part;
  });
}

function code(path, method, body) {
  const [kind, { example } = {}] = body.at(-1) ?? [];
  const options = method === "get" ? [] : [["-X", method.toUpperCase()]];
  const sent = kind === "application/json" ? example : undefined;
  if (sent) options.push(["-H", "Content-Type: application/json"], ["-d", JSON.stringify(sent)]);
  else if (path === "/adapt") options.push(["-F", "archive=@images.zip"]);
  return codeFor({
    curl: curl(path, options),
    python: () => {
      const given = sent ? `, json=${literal(sent)}` : path === "/adapt" ? ', files={"archive": open("images.zip", "rb")}' : "";
      return overHttp([`answer = http.${method}(${JSON.stringify(path)}${given})`, "print(answer.raise_for_status().text)"]);
    },
  });
}

/** A Python program without our client, which knows no single routes; `http` is one of this service. */
function overHttp(lines) {
  const headers = key.get() ? `, headers={"Authorization": f"Bearer {os.environ['CLIPCITE_API_KEY']}"}` : "";
  const start = `http = httpx.Client(base_url=${JSON.stringify(location.origin)}${headers}, timeout=120)`;
  return [...(headers ? ["import os", ""] : []), "import httpx", "", start, ...lines].join("\n");
}

draw();
