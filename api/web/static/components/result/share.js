// Share: the result as one HTML file that opens anywhere, without scripts or a connection.

import { h } from "../../lib/dom.js";
import { requestJson, saveBlob } from "../../lib/service/http.js";
import { imageBlob, listImages, spread } from "../../lib/training/job_images.js";
import { count, list, percent, points, when } from "../../lib/words.js";
import { comparisonOf, explained, likely, verdictOf } from "./verdict.js";

const MAX_IMAGES = 12;
const MAX_BYTES = 1_400_000; // of images; base64 adds a third, and the file stays below 2 MB
const STYLE = `
:root { color-scheme: light dark; --paper: #faf8f4; --card: #fff; --ink: #1e2226; --soft: #5c636b; --line: #e3ded4; --accent: #0b6e5f; --bad: #b0261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #141618; --card: #1c1f22; --ink: #ebe9e4; --soft: #a7adb4; --line: #31363b; --accent: #62ccb9; --bad: #ff958b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; } p { margin: 0 0 1rem; } .soft { color: var(--soft); }
ul { list-style: none; padding: 0; margin: 1.5rem 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
li { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
img { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; } li p { margin: 0; padding: .5rem .7rem; overflow-wrap: anywhere; }
.wrong { color: var(--bad); text-decoration: line-through; } .right { color: var(--accent); font-weight: 650; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1.5rem 0; } dd { margin: 0; font-size: 2rem; font-weight: 680; } dd.soft { font-size: 1rem; font-weight: 400; } dt { color: var(--soft); }
`;

/** Save the file of a job, with the name of its model if that is given.
 *
 *  Throws Problem if the job was deleted, and its images with it.
 *
 *  @param {Job} job @param {Model | null} [model] */
export async function shareModel(job, model = null) {
	const { kind } = verdictOf(job.metrics);
	const report = kind === "evaluating" || kind === "not_evaluated" ? null : await reportOf(job.id);
	const changes = report?.fixed.length ? report.fixed : spread(await listImages(job.id), MAX_IMAGES);
	const name = model?.name ?? job.name ?? list(job.classes.filter((entry) => entry.images).map((entry) => entry.name));
	const html = page(name, job, report, await cards(job, changes.slice(0, MAX_IMAGES)));
	saveBlob(new Blob([html], { type: "text/html" }), `${name}.html`);
}

/** @param {string} jobId */
async function reportOf(jobId) {
	try {
		return await requestJson(`/jobs/${encodeURIComponent(jobId)}/report`);
	} catch (error) {
		if (error.status === 404) return null; // an older job
		throw error;
	}
}

/** @param {Job} job @param {(Schemas["ChangedImage"] | StoredImage)[]} images */
async function cards(job, images) {
	const items = [];
	let bytes = 0;
	for (const image of images) {
		const blob = await imageBlob(job.id, image.position, 320);
		bytes += blob.size;
		if (bytes > MAX_BYTES) break;
		const change =
			"before" in image
				? [h("span", { class: "wrong" }, image.before), " → ", h("span", { class: "right" }, image.predicted)]
				: image.class_name;
		items.push(
			h("li", {}, h("img", { src: await dataUrl(blob), alt: `Labelled ${image.class_name}` }), h("p", {}, change)),
		);
	}
	return items;
}

/** @param {string} name @param {Job} job @param {JobReport | null} report @param {HTMLElement[]} items */
function page(name, job, report, items) {
	const file = document.implementation.createHTMLDocument(name);
	const comparison = report && comparisonOf(job.metrics);
	const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
	file.documentElement.lang = "en";
	file.head.append(
		h("meta", { charset: "utf-8" }),
		h("meta", { "http-equiv": "Content-Security-Policy", content: policy }),
		h("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
		document.createComment("style"), // the policy of this page forbids a <style> here
	);
	/** @param {string} label @param {string} value @param {string | null} [range] */
	const number = (label, value, range) =>
		h("div", {}, h("dt", {}, label), h("dd", {}, value), range && h("dd", { class: "soft" }, range));
	const facts = [
		verdictOf(job.metrics).title,
		when(job.finished_at ?? job.created_at),
		`trained from ${job.config.backbone}`,
	];
	file.body.append(h("h1", {}, name), h("p", { class: "soft" }, facts.join(" · ")), h("ul", {}, items));
	if (comparison) {
		const { stock, adapted, interval, difference } = comparison;
		const numbers = [number("Before", percent(stock)), number("Now", percent(adapted), interval && likely(interval))];
		if (difference) numbers.push(number("Change in points", points(difference.value)));
		file.body.append(h("dl", {}, numbers));
	}
	file.body.append(h("p", {}, explained(job, report)));
	if (report) {
		const [fixed, broken] = [report.fixed, report.broken].map((images) => count(images.length, "image"));
		file.body.append(h("p", { class: "soft" }, `${fixed} wrong before, right now. ${broken} right before, wrong now.`));
	}
	return `<!doctype html>\n${file.documentElement.outerHTML.replace("<!--style-->", () => `<style>${STYLE}</style>`)}`;
}

/** @param {Blob} blob */
function dataUrl(blob) {
	return new Promise((resolve, reject) => {
		const reader = new FileReader();
		reader.onload = () => resolve(reader.result);
		reader.onerror = () => reject(reader.error);
		reader.readAsDataURL(blob);
	});
}
