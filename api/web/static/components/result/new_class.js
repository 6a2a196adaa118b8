// The last step of a job with test images of untrained classes: the model is asked for a class that it never saw.

import { h, replace } from "../../lib/dom.js";
import { classify } from "../../lib/classify.js";
import { imageBlob, listImages } from "../../lib/training/job_images.js";
import { count, percent } from "../../lib/words.js";
import { problemBox } from "../../lib/problem.js";

const MAX_IMAGES = 4;

/** Create the card; it stays hidden for a job without such images. */
export function newClass(job, signal) {
  const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
  const name = job.classes.find((entry) => !entry.images && entry.test_images)?.name;
  if (!name) return null;
  const rows = h("ul", { class: "strip", "aria-label": `Images of ${name}` });
  const outcome = h("p", { role: "status" });
  const add = h("button", { type: "button", class: "main", onclick: ask }, `+ ${name}`);
  const element = h(
    "div",
    { class: "card new-class", hidden: true },
    h("h2", {}, "Now a class that was never trained"),
    h("p", {}, `The model has seen no image of ${name}. Add the name, and ask again.`),
    rows,
    h("div", { class: "row" }, add, outcome),
  );
  let shown = [];

  async function load() {
    const images = (await listImages(job.id, signal)).filter((image) => image.split === "test" && image.class_name === name);
    shown = await Promise.all(
      images.slice(0, MAX_IMAGES).map(async (image) => {
        const file = await imageBlob(job.id, image.position, 512, signal);
        const url = URL.createObjectURL(file);
        signal.addEventListener("abort", () => URL.revokeObjectURL(url));
        const answer = h("p", {});
        rows.append(h("li", {}, h("img", { class: "stored", src: url, alt: image.file_name }), answer));
        return { file, name: image.file_name, answer };
      }),
    );
    element.hidden = !shown.length;
    await show(trained);
  }
  /** Classify the images among these names. Returns the number of images with the new name. */
  async function show(names) {
    const { results } = await classify(shown, { model: job.model_id, class_names: names }, signal);
    const best = results.map(({ predictions }) => predictions?.[0]);
    shown.forEach(({ answer }, i) => replace(answer, best[i] && [h("span", { class: best[i].class_name === name ? "right" : "wrong" }, best[i].class_name), ` ${percent(best[i].probability)}`]));
    return best.filter((prediction) => prediction?.class_name === name).length;
  }
  async function ask() {
    add.disabled = true;
    try {
      const right = await show([...trained, name]);
      outcome.textContent = `${right} of ${count(shown.length, "image")} recognised by the name alone.`;
    } catch (error) {
      if (error.name !== "AbortError") replace(outcome, problemBox(error));
    } finally {
      add.disabled = false;
    }
  }
  load().catch(() => {}); // optional: the images may have been deleted
  return element;
}
