// API reference: Swagger UI, whose requests have the page's key.

import { pageFrame } from "../components/frame.js";
import { keyDialog } from "../components/key_dialog.js";
import { key } from "../lib/service/http.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
keyDialog(() => {}); // the reference itself needs no key
pageFrame();
globalThis.SwaggerUIBundle({
	url: "/openapi.json",
	dom_id: "#reference",
	defaultModelsExpandDepth: -1, // no list of all types at the end
	validatorUrl: null,
	syntaxHighlight: { activated: false }, // its colours lack contrast
	requestInterceptor: (/** @type {{ headers: Record<string, string>, body: unknown }} */ request) => {
		if (key.get()) request.headers.Authorization ??= `Bearer ${key.get()}`;
		if (request.body instanceof FormData) {
			// Fields without a value are not sent. Swagger UI fills them with their default, null.
			for (const [name, value] of [...request.body]) if (value === "" || value === "null") request.body.delete(name);
		}
		return request;
	},
});
