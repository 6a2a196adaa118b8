// Training again with another base model, and the comparison of both results.

import { button, h, newId, replace } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { pressed } from "../../lib/problem.js";
import { requestJson } from "../../lib/service/http.js";
import { listImages } from "../../lib/training/job_images.js";
import { originOf, retrain } from "../../lib/training/retrain.js";
import { percent } from "../../lib/words.js";
import { comparisonOf } from "../result/verdict.js";

/** Return the base models that a training can use now. @param {AbortSignal} [signal] */
async function installedModels(signal) {
	const { data } = await requestJson("/backbones", { quiet: true, signal });
	return data.filter(({ state }) => state === "installed");
}

/** Create a row that trains again from the job's images. It stays hidden without another base model.
 *
 *  @param {Job} job @param {AbortSignal} signal */
export function trainAgainRow(job, signal) {
	const id = newId("base-model");
	const keyOf = newKey();
	const select = h("select", { id });
	const trouble = h("div", {});
	const start = button("Train with it", begin);
	const label = h("label", { for: id }, "Compare with another base model");
	const row = h("div", { hidden: true }, h("div", { class: "row again" }, label, select, start), trouble);
	function begin() {
		return pressed(start, trouble, async () => {
			const next = await retrain(job.id, { config: { backbone: select.value } }, { key: keyOf(select.value), signal });
			location.hash = `#/jobs/${encodeURIComponent(next)}`;
		});
	}
	installedModels(signal)
		.then((rows) => {
			const others = rows.filter(({ name }) => name !== job.config.backbone);
			replace(select, ...others.map(({ name, title }) => h("option", { value: name }, title)));
			row.hidden = !others.length;
		})
		.catch(() => {}); // optional: errors show elsewhere
	return row;
}

/** Return "With the starter: 86% → 93%. With CLIP ViT-B/16: 95% → 98%." for two jobs with the same images; empty
 *  without such an earlier job.
 *
 *  @param {Job} job @param {Model | null} before @param {AbortSignal} signal */
export async function comparedModels(job, before, signal) {
	const id = originOf(job.id) ?? before?.job_id;
	if (!id) return "";
	const other = await requestJson(`/jobs/${encodeURIComponent(id)}`, { signal });
	if (other.config.backbone === job.config.backbone || !comparisonOf(other.metrics)) return "";
	const measured = [other, job].map(({ metrics }) => [metrics?.measured_on.source, metrics?.measured_on.images]);
	if (`${measured[0]}` !== `${measured[1]}`) return "";
	const images = await Promise.all([other, job].map(({ id }) => listImages(id, signal)));
	if (JSON.stringify(images[0]) !== JSON.stringify(images[1])) return "";
	const titles = Object.fromEntries((await installedModels(signal)).map(({ name, title }) => [name, title]));
	/** @param {Job} compared */
	const words = ({ config: { backbone }, metrics }) => {
		const comparison = comparisonOf(metrics);
		if (!comparison) return "";
		const { stock, adapted } = comparison;
		return `With ${backbone === "starter" ? "the starter" : (titles[String(backbone)] ?? backbone)}: ${percent(stock)} → ${percent(adapted)}.`;
	};
	return `${words(other)} ${words(job)}`;
}
