// HTTP client of the page. The page uses the public routes and the user's API key.

import { count } from "../words.js";

/** Error of a file that can't be read. */
export const GONE = "Can no longer be read: it was moved, changed or deleted.";
const STORED = "clipcite-key";

const TOKEN = /^[\w-]{43}$/; // of a service without keys, on one's own machine

/** The API key, stored for the lifetime of the tab, or in this browser if the person wants that. The token of one's own
 *  machine always stays in this browser. */
export const key = {
	get: () => sessionStorage.getItem(STORED) ?? localStorage.getItem(STORED) ?? "",
	/** @param {string} value @param {boolean} [remember] */
	set(value, remember = TOKEN.test(value)) {
		key.forget();
		(remember ? localStorage : sessionStorage).setItem(STORED, value);
	},
	forget() {
		sessionStorage.removeItem(STORED);
		localStorage.removeItem(STORED);
	},
	isRemembered: () => localStorage.getItem(STORED) !== null,
	isToken: () => TOKEN.test(key.get()),
};

/** Move the token of the link that `clipcite serve` printed into the browser's storage, out of the address bar.
 *
 * Anyone can write such a link, so API keys are not accepted, and another key is replaced only after a question. Returns
 * whether the page uses the token.
 */
export function takeToken() {
	if (!location.hash.startsWith("#token=")) return false;
	const [, token] = /^#token=([\w-]{43})$/.exec(location.hash) ?? [];
	history.replaceState(null, "", "/");
	if (!token) return false;
	const question =
		"This link has another key than the page uses. Images that you upload will belong to its owner. Use the link's key?";
	const taken = !key.get() || key.get() === token || confirm(question);
	if (taken) key.set(token);
	return taken;
}

/** An error response, with the service's problem+json fields. */
export class Problem extends Error {
	/** @param {number} status @param {Schemas["Problem"] | null} body @param {string} sent key @param {boolean} [quiet] */
	constructor(status, body, sent, quiet = false) {
		super(body?.detail ?? `The service responded with status ${status}. Try again; its log has the reason.`);
		this.status = status;
		this.code = body?.code ?? "";
		/** @type {Schemas["ProblemItem"][]} */
		this.errors = body?.errors ?? [];
		/** @type {Schemas["ProblemAction"][]} */
		this.actions = body?.actions ?? [];
		this.requestId = body?.request_id ?? "";
		if (status === 401 && !quiet)
			document.dispatchEvent(new CustomEvent("key-needed", { detail: { code: this.code, sent } }));
	}
}

class Unreachable extends Error {
	constructor() {
		super("Can't reach the service. It may be restarting; nothing is lost.");
	}
}

/** The browser can't read files of a form, and so sends nothing. `places` are their positions among its files. */
export class Unreadable extends Error {
	/** @param {File[]} files @param {number[]} places */
	constructor(files, places) {
		super(`${count(places.length, "file")} can't be sent.`);
		this.places = places;
		/** @type {Schemas["ProblemItem"][]} */
		this.errors = places.map((i) => ({ pointer: null, file: files[i].name, code: null, detail: GONE }));
	}
}

/** Return why a request got no response. @param {BodyInit} [body] */
async function failure(body) {
	const files = body instanceof FormData ? [...body.values()].filter((value) => value instanceof File) : [];
	const reads = await Promise.allSettled(files.map((file) => file.slice(0, 1).arrayBuffer()));
	const places = [...files.keys()].filter((i) => reads[i].status === "rejected");
	return places.length ? new Unreadable(files, places) : new Unreachable();
}

/** Return the header with the key, if there is one. @returns {Record<string, string>} */
export function authorization() {
	return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}

/** Send a request, with a `body` or a value as `json`, and return the response. Throws Problem, Unreachable,
 *  Unreadable or an AbortError. A `quiet` request asks for no key.
 *
 *  @param {string} path @param {CallOptions<Method>} [options] */
export async function call(path, { method = "GET", json, body, headers, signal, quiet } = {}) {
	const sent = key.get();
	let response;
	try {
		response = await fetch(path, {
			method,
			body: json ? JSON.stringify(json) : body,
			signal,
			headers: { ...authorization(), ...(json && { "Content-Type": "application/json" }), ...headers },
		});
	} catch (error) {
		throw error.name === "AbortError" ? error : await failure(body);
	}
	if (!response.ok) throw new Problem(response.status, await response.json().catch(() => null), sent, quiet);
	const owner = response.headers.get("X-Clipcite-Owner");
	if (owner) document.dispatchEvent(new CustomEvent("owner", { detail: owner }));
	return response;
}

/** Send a request and return the JSON of the response.
 *
 *  @template {string} Path @template {Method} [M="GET"]
 *  @param {Path} path @param {CallOptions<M>} [options] @returns {Promise<Answer<Path, M>>} */
export async function requestJson(path, options) {
	return (await call(path, options)).json();
}

/** Upload a form with XMLHttpRequest, since fetch reports no progress. `onprogress` gets 0 to 1.
 *
 *  @template {string} Path
 *  @param {Path} path @param {FormData} form
 *  @param {CallOptions<"POST"> & { onprogress?: (fraction: number) => unknown }} [options]
 *  @returns {Promise<Answer<Path, "POST">>} */
export function upload(path, form, { onprogress = () => {}, headers = {}, signal } = {}) {
	return new Promise((resolve, reject) => {
		signal?.throwIfAborted();
		const sent = key.get();
		const request = new XMLHttpRequest();
		request.open("POST", path);
		for (const [name, value] of Object.entries({ ...authorization(), ...headers }))
			request.setRequestHeader(name, value);
		request.upload.onprogress = (event) => onprogress(event.total ? event.loaded / event.total : 0);
		request.onload = () => {
			let body = null;
			try {
				body = JSON.parse(request.responseText);
			} catch {
				// Not JSON, such as an error page of a proxy: only the status is used.
			}
			if (request.status < 300 && body) resolve(body);
			else reject(new Problem(request.status, body, sent));
		};
		request.onerror = async () => reject(await failure(form));
		request.onabort = () => reject(new DOMException("Aborted.", "AbortError"));
		signal?.addEventListener("abort", () => request.abort(), { once: true });
		request.send(form);
	});
}

/** Save the response to a GET as a file. With a key the file is held in memory, since a link can't send the key. */
export async function download(path, name) {
	if (key.get()) saveBlob(await (await call(path)).blob(), name);
	else save(path, name);
}

/** Save a blob as a file. */
export function saveBlob(blob, name) {
	const url = URL.createObjectURL(blob);
	save(url, name);
	setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function save(url, name) {
	const link = document.createElement("a");
	link.href = url;
	link.download = name;
	link.click();
}
