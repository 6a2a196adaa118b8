// Names such as shoes@prod: which version programs get that ask for it, moved and moved back from here.

import { codeFor, curl, literal, orElse, python } from "./code.js";
import { announce, confirmed, h, newId, replace } from "../lib/dom.js";
import { call } from "../lib/http.js";
import { problemBox } from "../lib/problem.js";

/** A fold-out to point an alias to this model; null where the model has no name. */
export function aliasField(model) {
  if (!model.name || !model.version) return null;
  const id = newId("alias");
  const trouble = h("div", {});
  const field = h("input", { id, placeholder: "prod", autocomplete: "off", required: true });
  const path = (alias) => `/models/${encodeURIComponent(model.name)}/aliases/${encodeURIComponent(alias)}`;

  async function act(what, words) {
    replace(trouble);
    try {
      await what();
      announce(words);
      dispatchEvent(new HashChangeEvent("hashchange")); // it may have left another model of the list
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }
  function point(event) {
    event.preventDefault();
    const alias = field.value.trim();
    const body = JSON.stringify({ model: model.id });
    const headers = { "Content-Type": "application/json" };
    act(() => call(path(alias), { method: "PUT", body, headers }), `${model.name}@${alias} is this model now.`);
  }
  async function back(alias) {
    if (!(await confirmed(`Point ${model.name}@${alias} back to the model that it was before?`, "Point it back"))) return;
    act(() => call(`${path(alias)}/rollback`, { method: "POST" }), `${model.name}@${alias} is the former model again.`);
  }
  return h(
    "details",
    { class: "plain" },
    h("summary", {}, "Aliases"),
    h("p", { class: "soft" }, `Programs that ask for ${model.name}@prod, say, get the model that it points to.`),
    h("form", { class: "row alias", onsubmit: point }, h("label", { for: id, class: "unseen" }, `An alias of ${model.name}`), field, h("button", { type: "submit", class: "quiet" }, "Point it here")),
    model.aliases.map((alias) => h("button", { type: "button", class: "quiet small", onclick: () => back(alias) }, `Point @${alias} back`)),
    trouble,
    codeFor({ what: "move an alias", curl: () => asCurl(model, path, field), python: () => asPython(model, field) }),
  );
}

const asked = (field) => field.value.trim() || "prod";

function asCurl(model, path, field) {
  const body = JSON.stringify({ model: model.id });
  const there = curl(path(asked(field)), [["-X", "PUT"], ["-H", "Content-Type: application/json"], ["-d", body]]);
  return `${there}\n${orElse("go back", curl(`${path(asked(field))}/rollback`, [["-X", "POST"]]))}`;
}

function asPython(model, field) {
  const alias = `${literal(model.name)}, ${literal(asked(field))}`;
  return python([`client.aliases.promote(${alias}, ${literal(model.id)})`, orElse("go back", `client.aliases.rollback(${alias})`)]);
}
