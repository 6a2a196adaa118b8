// Where the service asks for a key: the field for it, and nothing about the keys of others.

import { h } from "../lib/dom.js";
import { key } from "../lib/http.js";

/** Ask for a key when the service wants one; `again` shows anew what could not be shown. */
export function keyDialog(again) {
  const button = document.getElementById("key");
  const field = h("input", { type: "password", id: "key-field", autocomplete: "off", spellcheck: "false", required: true });
  const wrong = h("p", { class: "problem", role: "alert", hidden: true }, "The service does not take this key. Is it complete, and still good?");
  const forget = h("button", { type: "button", class: "quiet", onclick: forgotten }, "Forget it");
  const dialog = h(
    "dialog",
    { class: "card", "aria-labelledby": "key-title" },
    h("h2", { id: "key-title" }, "Your key"),
    h("p", { class: "soft" }, "This service opens with a key. Whoever runs it makes one with ", h("code", {}, "clipcite keys create"), ". It is kept in this tab only, until you close it."),
    wrong,
    h(
      "form",
      { onsubmit: entered },
      h("label", { for: "key-field" }, "Key"),
      field,
      h("div", { class: "row end" }, forget, h("button", { type: "submit", class: "main" }, "Use this key")),
    ),
  );
  document.body.append(dialog);

  function ask(refused) {
    button.hidden = false;
    forget.hidden = !key.get();
    wrong.hidden = !refused;
    if (!dialog.open) dialog.showModal();
    field.focus();
  }
  function entered(event) {
    event.preventDefault(); // the policy lets no form be sent
    key.set(field.value.trim());
    field.value = "";
    dialog.close();
    again();
  }
  function forgotten() {
    key.forget();
    dialog.close();
    again();
  }
  button.hidden = !key.get();
  button.addEventListener("click", () => ask(false));
  document.addEventListener("key-needed", () => {
    const refused = Boolean(key.get());
    key.forget();
    ask(refused);
  });
}
