// Aliases such as shoes@prod: promote a version, and roll back.

import { announce, confirmed, h, newId, replace } from "../lib/dom.js";
import { call } from "../lib/service/http.js";
import { problemBox } from "../lib/problem.js";

/** Create a form that points an alias at this model; null for a model without a name. */
export function aliasField(model) {
  if (!model.name || !model.version) return null;
  const id = newId("alias");
  const trouble = h("div", {});
  const field = h("input", { id, placeholder: "prod", autocomplete: "off", required: true });
  const path = (alias) => `/models/${encodeURIComponent(model.name)}/aliases/${encodeURIComponent(alias)}`;

  async function act(send, message) {
    replace(trouble);
    try {
      await send();
      announce(message);
      dispatchEvent(new HashChangeEvent("hashchange")); // redraws the list: the alias may have left another model
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }
  function point(event) {
    event.preventDefault();
    const alias = field.value.trim();
    const body = JSON.stringify({ model: model.id });
    const headers = { "Content-Type": "application/json" };
    act(() => call(path(alias), { method: "PUT", body, headers }), `${model.name}@${alias} points at this model now.`);
  }
  async function rollBack(alias) {
    if (!(await confirmed(`Point ${model.name}@${alias} back at its previous model?`, "Roll back"))) return;
    act(() => call(`${path(alias)}/rollback`, { method: "POST" }), `${model.name}@${alias} points at its previous model again.`);
  }
  return h(
    "div",
    { class: "aliases" },
    h("h3", {}, "Aliases"),
    h("p", { class: "soft" }, `Programs that request ${model.name}@prod get the model that the alias prod points at.`),
    h("form", { class: "row alias", onsubmit: point }, h("label", { for: id, class: "unseen" }, `Alias of ${model.name}`), field, h("button", { type: "submit", class: "quiet" }, "Point here")),
    model.aliases.map((alias) => h("button", { type: "button", class: "quiet small", onclick: () => rollBack(alias) }, `Roll back @${alias}`)),
    trouble,
  );
}
