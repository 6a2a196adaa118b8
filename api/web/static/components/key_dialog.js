// Dialog for the API key.

import { button, byId, h, replace } from "../lib/dom.js";
import { key } from "../lib/service/http.js";

/** Ask for an API key when the service requires one. `retry` redraws the view. Returns a function that closes the dialog
 *  once another way, such as the link with the token, has set the key. */
export function keyDialog(retry) {
	const opener = byId("key");
	const field = h("input", {
		type: "password",
		id: "key-field",
		autocomplete: "off",
		spellcheck: "false",
		required: true,
	});
	const wrong = h(
		"p",
		{ class: "problem", role: "alert", hidden: true },
		"That key isn't valid. Copy it again in full (a key begins with cc_), or ask the operator for a new one.",
	);
	const remember = h("input", { type: "checkbox" });
	const choice = h("label", { class: "soft" }, remember, " Remember on this device");
	const signOut = button("Sign out", forgetKey);
	const text = h("p", { class: "soft" });
	let refused = false; // until another key is used: requests in parallel fail one after the other
	const end = h("div", { class: "row end" }, signOut, h("button", { type: "submit", class: "main" }, "Use this key"));
	const form = h("form", { onsubmit: submit }, h("label", { for: "key-field" }, "Key"), field, choice, end);
	const title = h("h2", { id: "key-title" }, "API key");
	const dialog = h("dialog", { class: "card", "aria-labelledby": "key-title" }, title, text, wrong, form);
	document.body.append(dialog);

	function close() {
		refused = false;
		field.value = "";
		if (dialog.open) dialog.close();
	}
	function open(code) {
		replace(text, code === "token_needed" ? TOKEN_TEXT() : KEY_TEXT());
		opener.hidden = false;
		signOut.hidden = !key.get();
		choice.hidden = code === "token_needed"; // a token is remembered always
		remember.checked = key.isRemembered();
		wrong.hidden = !refused;
		if (!dialog.open) dialog.showModal();
		field.focus();
	}
	function submit(event) {
		event.preventDefault(); // the content security policy forbids form submission
		key.set(field.value.trim(), choice.hidden || remember.checked);
		close();
		retry();
	}
	function forgetKey() {
		key.forget();
		close();
		retry();
	}
	opener.hidden = !key.get();
	opener.addEventListener("click", () => open(key.isToken() ? "token_needed" : ""));
	document.addEventListener("owner", ({ detail }) => {
		opener.textContent = detail === "default" ? "Key" : detail;
		opener.ariaLabel = detail === "default" ? null : `Key of ${detail}`;
		opener.title = "Change the key, or sign out";
	});
	document.addEventListener("key-needed", ({ detail: { code, sent } }) => {
		if (sent !== key.get()) return; // another key is used by now
		refused ||= Boolean(sent);
		key.forget();
		open(code);
	});
	return close;
}

const TOKEN_TEXT = () => [
	"Open the link that ",
	h("code", {}, "clipcite serve"),
	" printed, or run ",
	h("code", {}, "clipcite open"),
	" on the machine of the service. Or paste the token that ",
	h("code", {}, "clipcite keys token"),
	" prints; the page keeps it in this browser.",
];
const KEY_TEXT = () => [
	"This service requires an API key. Its operator creates keys with ",
	h("code", {}, "clipcite keys create"),
	". The page keeps the key until you close this tab. If you remember it on this device, it stays in the storage of this browser until you sign out: everybody who uses the browser can then use the service as you.",
];
