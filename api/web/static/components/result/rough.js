// Instant preview on the job's test images, shown while the model trains.

import { h, replace } from "../../lib/dom.js";
import { classify } from "../../lib/classify.js";
import { imageBlob, listImages, spread } from "../../lib/training/job_images.js";
import { roughPercent } from "../../lib/words.js";

const MAX_IMAGES = 6;
const RETRY_MS = 2_000;

/** Create the strip; it stays hidden for a job without test images. */
export function roughPreview(job, signal) {
  const rows = h("ul", { class: "strip rough" });
  const element = h(
    "div",
    { class: "card", hidden: true },
    h("div", { class: "headline" }, h("h2", {}, "Test images"), h("span", { class: "tag rough-tag" }, "rough")),
    h("p", { class: "soft" }, "Instant preview from your images, before training. The trained model is usually better."),
    rows,
  );

  async function load() {
    const names = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
    const tests = (await listImages(job.id, signal)).filter((image) => image.split === "test" && names.includes(image.class_name));
    const images = spread(tests, MAX_IMAGES);
    if (!images.length) return;
    const shown = await Promise.all(
      images.map(async (image) => {
        const blob = await imageBlob(job.id, image.position, 512, signal);
        const url = URL.createObjectURL(blob);
        signal.addEventListener("abort", () => URL.revokeObjectURL(url));
        const answer = h("div", {});
        rows.append(h("li", {}, h("img", { class: "stored", src: url, alt: `${image.file_name}, labelled ${image.class_name}` }), answer));
        return { ...image, name: image.file_name, file: blob, answer };
      }),
    );
    element.hidden = false;
    const { results } = await patiently(() => classify(shown, { model: job.id, class_names: names }, signal), signal);
    shown.forEach((image, i) => replace(image.answer, answer(results[i], image.class_name)));
  }
  load().catch(() => {}); // optional: the progress is shown in any case
  return element;
}

function answer({ predictions }, truth) {
  if (!predictions) return null;
  const [{ class_name: name, probability }] = predictions;
  return [
    h("p", {}, h("span", { class: name === truth ? "right" : "wrong" }, name), " ", h("span", { class: "share" }, roughPercent(probability))),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill striped", style: { width: roughPercent(probability) } })),
  ];
}

/** Retry while the service is too busy with other requests. */
async function patiently(act, signal) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (error.status !== 503) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      signal.throwIfAborted();
    }
  }
}
