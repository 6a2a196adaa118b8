// API reference, rendered from the OpenAPI document.

import { codeFor, curl, literal } from "../components/code.js";
import { pageFrame } from "../components/frame.js";
import { keyDialog } from "../components/key_dialog.js";
import { tryRoute } from "../components/try_route.js";
import { byId, h, replace } from "../lib/dom.js";
import { showProblem } from "../lib/problem.js";
import { key, requestJson } from "../lib/service/http.js";
import { exampleOf, fieldsOf, typeOf } from "../lib/service/openapi_schema.js";

async function draw() {
	const place = byId("reference");
	try {
		const spec = await requestJson("/openapi.json");
		const groups = grouped(spec);
		replace(
			place,
			h(
				"div",
				{ class: "reference" },
				contents(groups),
				h(
					"div",
					{},
					[...groups].map(([tag, all]) => section(tag, all, spec)),
				),
			),
		);
		byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
	} catch (error) {
		showProblem(place, error);
	}
}

const ORDER = ["adapt", "jobs", "models", "classify"]; // first the most used groups, then all others

function grouped({ paths }) {
	/** @type {Map<string, object[]>} */
	const groups = new Map(ORDER.map((tag) => [tag, []]));
	for (const [path, methods] of Object.entries(paths)) {
		for (const [method, operation] of Object.entries(methods)) {
			const tag = operation.tags?.[0] ?? "other";
			const id = `${method}${path.replaceAll(/[^\w]+/g, "-")}`;
			groups.set(tag, [...(groups.get(tag) ?? []), { path, method, operation, id }]);
		}
	}
	return groups;
}

function contents(groups) {
	const lists = [...groups].map(([tag, all]) => [
		h("h2", {}, tag),
		h(
			"ul",
			{},
			all.map(({ path, method, id }) => h("li", {}, h("a", { href: `#${id}` }, `${method.toUpperCase()} ${path}`))),
		),
	]);
	return h("nav", { "aria-label": "Routes" }, lists);
}

function section(tag, operations, spec) {
	return h(
		"section",
		{},
		h("h2", {}, tag),
		operations.map((operation) => article(operation, spec)),
	);
}

function article({ path, method, operation, id }, spec) {
	const body = Object.entries(operation.requestBody?.content ?? {});
	const responses = Object.entries(operation.responses ?? {});
	const successes = responses.filter(([status]) => status < "4");
	const problems = responses.filter(([status]) => status >= "4");
	return h(
		"article",
		{ class: "card operation", id },
		h("h3", {}, h("span", { class: `verb ${method}` }, method.toUpperCase()), h("code", {}, path)),
		paragraphs(operation.description ?? operation.summary ?? ""),
		operation.parameters?.length && [
			h("h4", {}, "Parameters"),
			table(
				operation.parameters.map((p) => ({
					name: p.name,
					type: `${typeOf(p.schema, spec)}, in ${p.in}`,
					required: p.required,
					description: p.description ?? p.schema.description,
				})),
			),
		],
		body.map(([kind, { schema, example }]) => [
			h("h4", {}, "Body: ", h("code", {}, kind)),
			table(fieldsOf(schema, spec)),
			example && json(example, "Example body"),
		]),
		successes.map(([status, response]) => [
			h("h4", {}, `Response ${status}`),
			response.description && response.description !== "Successful Response" && paragraphs(response.description),
			Object.entries(response.content ?? {}).map(([kind, content]) => responseBody(kind, content, spec)),
		]),
		problems.length > 0 &&
			h(
				"p",
				{ class: "soft" },
				"Errors: ",
				problems.map(([status, { description }]) => `${status} ${description}`).join(", "),
				", as ",
				h("code", {}, "application/problem+json"),
				".",
			),
		tryRoute({ path, method, parameters: operation.parameters, body: body[0] }, spec),
		code(path, method, body),
	);
}

function responseBody(kind, { schema, example }, spec) {
	const shown = example ?? exampleOf(schema, spec);
	const text = typeof shown === "string";
	const fields = fieldsOf(schema, spec);
	return h(
		"details",
		{ class: "plain" },
		h("summary", {}, kind),
		fields.length > 0 && table(fields),
		shown !== undefined &&
			(text ? h("pre", { tabindex: "0", "aria-label": "Example" }, shown) : json(shown, "Example response")),
	);
}

function json(value, label) {
	return h("pre", { tabindex: "0", "aria-label": label }, JSON.stringify(value, null, 2));
}

function table(fields) {
	const row = ({ name, type, required, description }) =>
		h(
			"tr",
			{},
			h("td", {}, h("code", {}, name)),
			h("td", {}, type, required && h("span", { class: "soft" }, ", required")),
			h("td", {}, spans(description ?? "")),
		);
	return h(
		"div",
		{ class: "scroll", tabindex: "0", role: "group", "aria-label": "Fields" },
		h(
			"table",
			{},
			h(
				"thead",
				{},
				h(
					"tr",
					{},
					["Name", "Type", "Meaning"].map((name) => h("th", { scope: "col" }, name)),
				),
			),
			h("tbody", {}, fields.map(row)),
		),
	);
}

/** Render text with `code` and **bold** spans as paragraphs. */
function paragraphs(text) {
	return text
		.split(/\n\s*\n/)
		.filter(Boolean)
		.map((paragraph) => h("p", {}, spans(paragraph)));
}

function spans(text) {
	return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
		if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
		return part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : part;
	});
}

function code(path, method, body) {
	const [kind, { example } = {}] = body.at(-1) ?? [];
	/** @type {[string, string][]} */
	const options = method === "get" ? [] : [["-X", method.toUpperCase()]];
	const jsonBody = kind === "application/json" ? example : undefined;
	if (jsonBody) options.push(["-H", "Content-Type: application/json"], ["-d", JSON.stringify(jsonBody)]);
	else if (path === "/adapt") options.push(["-F", "archive=@images.zip"]);
	return codeFor({
		curl: curl(path, options),
		python: () => {
			const extra = jsonBody
				? `, json=${literal(jsonBody)}`
				: path === "/adapt"
					? ', files={"archive": open("images.zip", "rb")}'
					: "";
			return overHttp([
				`response = http.${method}(${JSON.stringify(path)}${extra})`,
				"print(response.raise_for_status().text)",
			]);
		},
	});
}

/** Return a Python program that uses httpx. Its lines may use `http`, a client of this service. */
function overHttp(lines) {
	const headers = key.get() ? `, headers={"Authorization": f"Bearer {os.environ['CLIPCITE_API_KEY']}"}` : "";
	const start = `http = httpx.Client(base_url=${JSON.stringify(location.origin)}${headers}, timeout=120)`;
	return [...(headers ? ["import os", ""] : []), "import httpx", "", start, ...lines].join("\n");
}

keyDialog(() => {}); // the reference itself needs no key
pageFrame();
draw();
