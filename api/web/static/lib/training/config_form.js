// Optional training settings. Each has a default.

import { h, newId } from "../dom.js";

export function settingsPanel(settings, shots) {
  const ids = { name: newId("name"), epochs: newId("epochs") };
  const name = h("input", {
    id: ids.name,
    maxlength: "200",
    autocomplete: "off",
    placeholder: "garden birds",
    value: settings.name,
    oninput: () => (settings.name = name.value),
  });
  const epochs = h("input", {
    type: "number",
    id: ids.epochs,
    min: "1",
    max: "1000",
    placeholder: "default of the pre-trained model",
    value: settings.epochs,
    oninput: () => {
      settings.epochs = Number(epochs.value) || null;
      shots.changed();
    },
  });
  const evaluation = h("p", { class: "soft" });
  const element = h(
    "div",
    { class: "settings" },
    h("div", { class: "field" }, h("label", { for: ids.name }, "Model name (optional)"), name),
    evaluation,
    h(
      "details",
      { class: "plain" },
      h("summary", {}, "Advanced"),
      h("div", { class: "field" }, h("label", { for: ids.epochs }, "Epochs"), epochs),
    ),
  );
  function refresh() {
    const hasTests = shots.images.some((image) => image.split === "test");
    evaluation.textContent = hasTests
      ? "The model is evaluated on your test images."
      : "The model trains on all images and is evaluated by cross-validation.";
  }
  return { element, refresh };
}
