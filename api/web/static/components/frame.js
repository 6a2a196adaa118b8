// Frame around every view: notice about the service, banner of the starter model, footer.

import { h, replace } from "../lib/dom.js";
import { watchService } from "../lib/service/service_status.js";

const DEVICES = { cpu: "CPU", cuda: "GPU" };
const SWITCH = "clipcite serve --backbone ViT-B-16/openai";

/** Fill the frame, and keep it up to date. */
export function pageFrame() {
  const [notice, banner, service] = ["notice", "starter", "service"].map((id) => document.getElementById(id));
  replace(banner, "You're using the small starter model. ", h("button", { type: "button", class: "link", onclick: explainSwitch }, "Switch to CLIP →"));
  watchService((words, state) => {
    if (notice.textContent !== words) notice.textContent = words;
    notice.hidden = !words;
    if (!state?.version) return; // keep the last known values
    banner.hidden = state.backbone !== "starter";
    const backbone = state.backbone === "starter" ? "starter model" : state.backbone;
    replace(service, `clipcite ${state.version}, ${backbone} on ${DEVICES[state.device] ?? state.device}. `, h("a", { href: "/docs" }, "API documentation"));
  });
}

function explainSwitch() {
  const dialog = h(
    "dialog",
    { class: "card", "aria-labelledby": "switch-title", onclose: () => dialog.remove() },
    h("h2", { id: "switch-title" }, "Switch to CLIP"),
    h("p", {}, "The starter model is a small stand-in for CLIP that needs no download. CLIP knows far more images and words. It takes more memory and time; a GPU helps."),
    h("p", {}, "The operator of this service stops it, and starts it with:"),
    h("pre", { class: "plain-code", tabindex: "0", "aria-label": "Command" }, SWITCH),
    h("p", { class: "soft" }, "The first start downloads about 600 MB. Your trained models keep working; to move one to CLIP, train it again."),
    h("div", { class: "row end" }, h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
