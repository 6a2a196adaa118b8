// How the page speaks to the API: the same routes and the same key as everybody else.

const STORED = "clipcite-key";

/** The key lives as long as the tab. */
export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

/** An answer that is no success, in the service's own words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `The service answered with status ${status}.`);
    this.status = status;
    this.code = body?.code ?? "";
    this.errors = body?.errors ?? [];
    this.requestId = body?.request_id ?? "";
    if (status === 401) document.dispatchEvent(new CustomEvent("key-needed"));
  }
}

export class Unreachable extends Error {
  constructor() {
    super("The service can't be reached. It may be starting again; nothing is lost.");
  }
}

function authorization() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}

/** A request. Returns the response; throws Problem, Unreachable or what aborts it. */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { ...authorization(), ...headers } });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable();
  }
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => null));
  return response;
}

/** The same for an answer in JSON. */
export async function ask(path, options) {
  return (await call(path, options)).json();
}

/** Send a form and tell how much of it has gone, from 0 to 1, which fetch can't. */
export function upload(path, form, { onprogress = () => {}, headers = {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ ...authorization(), ...headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onprogress(event.total ? event.loaded / event.total : 0);
    request.onload = () => {
      let body = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // A proxy's own page: the status has to do.
      }
      if (request.status < 300 && body) resolve(body);
      else reject(new Problem(request.status, body));
    };
    request.onerror = () => reject(new Unreachable());
    request.onabort = () => reject(new DOMException("Stopped.", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** Save the answer to a GET as a file. With a key it goes through memory, since a link can't send one. */
export async function download(path, name, headers = {}) {
  const url = key.get() ? URL.createObjectURL(await (await call(path, { headers })).blob()) : path;
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  if (url !== path) setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
