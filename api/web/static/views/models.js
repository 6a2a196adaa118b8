// Models, newest first, with their verdicts and actions.

import { confirmed, h, replace } from "../lib/dom.js";
import { aliasField } from "../components/aliases.js";
import { classifyLines, codeFor, curl, literal, orElse, python } from "../components/code.js";
import { call, download } from "../lib/http.js";
import { pagedList } from "../components/pager.js";
import { problemBox } from "../lib/problem.js";
import { verdictTag } from "../components/result.js";
import { count, list, size, when } from "../lib/words.js";

export function modelsView({ signal }) {
  return h(
    "section",
    {},
    h("h1", {}, "Models"),
    h("p", { class: "lede" }, "Your trained models. Each also answers any other class name."),
    pagedList({
      path: "/models",
      signal,
      item: row,
      empty: [h("h2", {}, "No models yet"), h("p", {}, "Each finished training job creates a model."), h("a", { class: "button main", href: "#/" }, "Train a model")],
    }),
    codeFor({
      what: "list the models",
      curl: () => curl("/models?limit=20"),
      python: () => python(["for model in client.models.list():", "    print(model.id, model.name, model.trained_classes)"]),
    }),
  );
}

export function modelName(model) {
  const name = model.name ?? list(model.trained_classes);
  return model.version ? `${name}, version ${model.version}` : name;
}

function row(model) {
  const name = modelName(model);
  const trouble = h("div", {});
  async function remove(event) {
    const row = event.target.closest("li");
    if (!(await confirmed(`Delete the model “${name}”? This can't be undone.`, "Delete"))) return;
    try {
      await call(`/models/${model.id}`, { method: "DELETE" });
      row.remove();
    } catch (error) {
      replace(trouble, problemBox(error));
    }
  }
  const save = () => download(`/models/${model.id}/export`, `${name}.zip`).catch((error) => replace(trouble, problemBox(error)));
  const hidden = () => h("span", { class: "unseen" }, ` ${name}`);
  const actions = h(
    "div",
    { class: "row" },
    h("a", { class: "button quiet", href: `#/try/${model.id}` }, "Try it", hidden()),
    model.job_id && h("a", { class: "button quiet", href: `#/jobs/${model.job_id}` }, "Training job", hidden()),
    h("button", { type: "button", class: "quiet", onclick: save }, "Download", hidden()),
    h("button", { type: "button", class: "quiet", onclick: remove }, "Delete", hidden()),
  );
  return [
    h("div", { class: "row" }, h("h2", {}, name), verdictTag(model.metrics), (model.aliases ?? []).map((alias) => h("span", { class: "tag busy" }, `@${alias}`))),
    h("p", {}, list(model.trained_classes, 8)),
    h("p", { class: "soft" }, `${count(model.trained_classes.length, "class", "classes")}, ${size(model.bytes)}, ${when(model.created_at)}, ${model.backbone}`),
    actions,
    trouble,
    aliasField(model),
    codeFor({
      what: "classify with this model",
      curl: () => curl("/classify", [["-F", `model=${model.id}`], ["-F", `class_names=${JSON.stringify(model.trained_classes)}`], ["-F", "images=@image.jpg"]]),
      python: () => python(classifyLines({ class_names: model.trained_classes, model: model.id })),
    }),
    codeFor({
      what: "export or delete this model",
      curl: () => `${curl(`/models/${model.id}/export`, [["-OJ"]])}\n${orElse("delete the model", curl(`/models/${model.id}`, [["-X", "DELETE"]]))}`,
      python: () => python([`client.models.export(${literal(model.id)}, "model.zip")`, orElse("delete the model", `client.models.delete(${literal(model.id)})`)]),
    }),
  ];
}
