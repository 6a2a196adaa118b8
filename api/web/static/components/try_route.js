// "Try it": a form that sends a request to a route and shows the response.

import { button, h, newId, replace, unseen } from "../lib/dom.js";
import { authorization, saveBlob } from "../lib/service/http.js";
import { exampleOf, fieldsOf, typeOf } from "../lib/service/openapi_schema.js";

const MAX_SHOWN = 20_000; // characters

/** Create the form of a route. `body` is [media type, {schema, example}], or undefined without a body. */
export function tryRoute({ path, method, parameters = [], body }, spec) {
	const [kind, { schema, example } = {}] = body ?? [];
	const isForm = kind === "multipart/form-data";
	const written = JSON.stringify(example ?? exampleOf(schema, spec) ?? {}, null, 2);
	const json =
		kind === "application/json" && h("textarea", { rows: "6", spellcheck: "false", id: newId("body") }, written);
	const inputs = [
		...parameters.map(({ name, in: place, required, schema: type }) =>
			field(name, place, typeOf(type, spec), required),
		),
		...(isForm ? fieldsOf(schema, spec) : []).map(({ name, type, required }) => field(name, "form", type, required)),
	].sort((a, b) => Number(b.input.required) - Number(a.input.required));
	const shown = h("div", { role: "status" });
	const send = h("button", { type: "submit", class: "main" }, `Send ${method.toUpperCase()}`);
	const form = h(
		"form",
		{ class: "try-route", onsubmit: submit },
		inputs.map(({ label, input }) => h("div", { class: "field" }, label, input)),
		json && h("div", { class: "field" }, h("label", { for: json.id }, "JSON body"), json),
		h("div", { class: "row" }, send),
		shown,
	);

	function request() {
		const query = new URLSearchParams();
		const headers = authorization();
		const fields = new FormData();
		let address = path;
		for (const { name, place, input } of inputs) {
			if (place === "path")
				address = address.replace(`{${name}}`, encodeURIComponent(input.value).replaceAll("%2F", "/"));
			else if (place === "form" && input.files) for (const file of input.files) fields.append(name, file, file.name);
			else if (!input.value)
				continue; // left out
			else if (place === "query") query.append(name, input.value);
			else if (place === "header") headers[name] = input.value;
			else fields.append(name, input.value);
		}
		if (json) headers["Content-Type"] = "application/json";
		if (query.size) address += `?${query}`;
		return new Request(address, {
			method: method.toUpperCase(),
			headers,
			body: isForm ? fields : json ? json.value : null,
		});
	}
	/** @param {Event} event */
	async function submit(event) {
		event.preventDefault(); // the content security policy forbids form submission
		send.disabled = true;
		replace(shown, "…");
		try {
			const response = await fetch(request());
			if (response.status === 401) {
				const { code } = await response.clone().json();
				document.dispatchEvent(new CustomEvent("key-needed", { detail: code }));
			}
			replace(shown, h("h4", {}, `${response.status} ${response.statusText}`), await content(response));
		} catch (error) {
			replace(shown, h("p", { class: "problem" }, `No response: ${error.message}`));
		} finally {
			send.disabled = false;
		}
	}
	return h(
		"details",
		{ class: "plain" },
		h("summary", {}, "Try it", unseen(`: ${method.toUpperCase()} ${path}`)),
		form,
	);
}

/** @param {string} name @param {string} place @param {string} type @param {boolean} [required] */
function field(name, place, type, required) {
	const isFile = /\bfile$/.test(type);
	const id = newId("field");
	const input = h("input", {
		id,
		name,
		type: isFile && "file",
		multiple: isFile && type.startsWith("list"),
		required,
		placeholder: isFile ? null : type,
		autocomplete: "off",
	});
	return { name, place, input, label: h("label", { for: id }, h("code", {}, name), required && " (required)") };
}

/** Return the body of a response as an element. Text is shown as it arrives, since a stream of events may last for hours.
 *
 *  @param {Response} response */
async function content(response) {
	const kind = response.headers.get("Content-Type") ?? "";
	if (kind.startsWith("image/") || kind === "application/zip") {
		const blob = await response.blob();
		const name = new URL(response.url).pathname.split("/").at(-1) ?? "";
		return button(`Save ${(blob.size / 1e6).toFixed(1)} MB`, () => saveBlob(blob, name));
	}
	if (!response.body) return null;
	const pre = h("pre", { tabindex: "0", "aria-label": "Response" });
	if (/json$/.test(kind.split(";")[0])) pre.textContent = cut(JSON.stringify(await response.json(), null, 2));
	else follow(response.body, pre).catch((error) => pre.append(`\n${error.message}`));
	return pre;
}

/** @param {ReadableStream} body @param {HTMLElement} pre */
async function follow(body, pre) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		pre.textContent = cut(pre.textContent + value);
		if (pre.textContent.length > MAX_SHOWN || !pre.isConnected) return void reader.cancel();
	}
}

/** @param {string} text */
function cut(text) {
	return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}\n…` : text;
}
