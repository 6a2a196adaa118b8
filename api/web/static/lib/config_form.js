// The few choices before a start. Each has a default that is right for most.

import { h, newId } from "./dom.js";

export function settingsPanel(settings, shots) {
  const ids = { name: newId("name"), epochs: newId("epochs") };
  const name = h("input", {
    id: ids.name,
    maxlength: "200",
    autocomplete: "off",
    placeholder: "for example: birds of our garden",
    value: settings.name,
    oninput: () => (settings.name = name.value),
  });
  const epochs = h("input", {
    type: "number",
    id: ids.epochs,
    min: "1",
    max: "1000",
    placeholder: "as the network needs",
    value: settings.epochs,
    oninput: () => {
      settings.epochs = Number(epochs.value) || null;
      shots.changed();
    },
  });
  const measured = h("p", { class: "soft" });
  const element = h(
    "div",
    { class: "settings" },
    h("div", { class: "field" }, h("label", { for: ids.name }, "Name it, if you like"), name),
    measured,
    h(
      "details",
      { class: "plain" },
      h("summary", {}, "For those who know"),
      h("div", { class: "field" }, h("label", { for: ids.epochs }, "Rounds over the images (epochs)"), epochs),
    ),
  );
  function refresh() {
    const hasTests = shots.images.some((image) => image.split === "test");
    measured.textContent = hasTests
      ? "How well it has learnt is measured on your test images."
      : "Every image is learnt from. How well that went is measured on a sibling that learns without some of them.";
  }
  const config = () => (settings.epochs ? { epochs: settings.epochs } : {});
  return { element, refresh, config };
}
