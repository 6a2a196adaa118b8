// Choice of the model: the pre-trained one, the user's models, or the instant preview of a job that is training.

import { announce, field, h, replace } from "../../lib/dom.js";
import { requestJson } from "../../lib/service/http.js";
import { patiently } from "../../lib/service/patiently.js";
import { list } from "../../lib/words.js";

export const STOCK = "stock";
const PAGE = 100;
const ACTIVE = ["queued", "running"];

/** @param {Pick<ChoosableModel, "name" | "trained_classes" | "version">} model */
export function modelName(model) {
	const name = model.name ?? list(model.trained_classes);
	return model.version ? `${name}, version ${model.version}` : name;
}

/** Create the field. `choose` gets the id of the chosen model; `failed` gets errors of requests.
 *
 *  @param {{ choose: (id: string) => void, failed: (error: any) => void, signal: AbortSignal }} options */
export function modelSelect({ choose, failed, signal }) {
	/** @type {ChoosableModel[]} */
	let models = [];
	/** @type {string | null} */
	let cursor = null; // of the next page of models
	let id = STOCK;
	const select = h("select", { onchange: () => (select.value ? set(select.value) : olderModels().catch(failed)) });
	const element = field("Model", select);
	/** @param {string} wanted */
	const get = (wanted) => models.find((model) => model.id === wanted);

	/** Choose the model, and write it into the address of the view, unless that is of a pile. @param {string} wanted */
	function set(wanted) {
		id = wanted;
		const address = location.hash.replace(/^(#\/(?:try|sort)\b)(?!\/pil_).*/, `$1/${encodeURIComponent(id)}`);
		history.replaceState(null, "", address);
		draw();
		choose(id);
	}
	function draw() {
		replace(
			select,
			h("option", { value: STOCK }, "Pre-trained model"),
			models.map((model) => h("option", { value: model.id }, model.preview ? model.name : modelName(model))),
			cursor && h("option", { value: "" }, "Older models …"),
		);
		select.value = id;
	}
	async function nextPage() {
		const after = cursor ? `&after=${encodeURIComponent(cursor)}` : "";
		const page = await requestJson(`/models?limit=${PAGE}${after}`, { signal });
		models.push(...page.data.filter((model) => !get(model.id)));
		cursor = page.has_more ? page.next_cursor : null;
	}
	async function olderModels() {
		select.value = id;
		await nextPage();
		draw();
	}
	/** Load the models and choose `wanted`, the id of a model or of a job, or else the newest model in use. @param {string | null} [wanted] */
	async function load(wanted) {
		await nextPage();
		let found = wanted ?? models.find((model) => !model.not_promoted)?.id ?? STOCK;
		let problem = null;
		try {
			found = await resolve(found);
		} catch (error) {
			if (error.status !== 404) throw error;
			problem = error; // a deleted model, for example: the other models still work
			found = STOCK;
		}
		set(found);
		if (problem) failed(problem);
	}
	/** @param {string} wanted @returns {Promise<string>} */
	async function resolve(wanted) {
		if (wanted.startsWith("job_")) return resolveJob(wanted);
		if (wanted === STOCK || get(wanted)) return wanted;
		const model = await requestJson(`/models/${encodeURIComponent(wanted)}`, { signal });
		if (!get(model.id)) models.push(model);
		return model.id;
	}
	/** Return the id of the job's model, or of its instant preview while it has no model. @param {string} jobId */
	async function resolveJob(jobId) {
		const job = await requestJson(`/jobs/${encodeURIComponent(jobId)}`, { signal });
		if (job.model_id) return resolve(job.model_id);
		const trained = job.classes.filter((entry) => entry.images).map((entry) => entry.name);
		models.push({
			id: job.id,
			job_id: job.id,
			name: `${job.name ?? list(trained)} (training)`,
			trained_classes: trained,
			backbone: String(job.config.backbone),
			preview: true,
		});
		if (ACTIVE.includes(job.status)) waitForModel(job.id).catch(failed);
		return job.id;
	}
	/** Replace the preview by the model as soon as it is there. @param {string} jobId */
	async function waitForModel(jobId) {
		const path = /** @type {const} */ (`/jobs/${encodeURIComponent(jobId)}`);
		const wait = () => patiently(() => requestJson(`${path}?wait=30&until=model`, { signal }), signal);
		let job = await wait();
		while (!job.model_id && ACTIVE.includes(job.status)) job = await wait();
		if (!job.model_id) return;
		const model = await requestJson(`/models/${encodeURIComponent(job.model_id)}`, { signal });
		models = [model, ...models.filter((other) => other.id !== jobId && other.id !== model.id)];
		if (id !== jobId) return draw();
		set(model.id);
		announce("The model is trained.");
	}
	return { element, load, id: () => id, current: () => get(id) };
}
