// Training again from a job's stored images.

import { requestJson } from "../service/http.js";

/** Train again with corrected labels or other settings. Returns the id of the new job.
 *
 *  Positions count as in the report. `moved` maps positions to class names, `removed` lists images to leave
 *  out, and `confirmed` lists images whose labels are right. `config` has the settings that change. `key` is an
 *  idempotency key: a retry with the same key creates no second job.
 *
 *  @param {string} jobId @param {Partial<Schemas["Retraining"]>} changes
 *  @param {{ key?: string, signal?: AbortSignal }} [options] */
export async function retrain(jobId, { moved = {}, removed = [], confirmed = [], config }, { key, signal } = {}) {
	const job = await requestJson(`/jobs/${encodeURIComponent(jobId)}/retrain`, {
		method: "POST",
		json: { moved, removed, confirmed, config },
		headers: key ? { "Idempotency-Key": key } : {},
		signal,
	});
	if (config?.backbone) sessionStorage.setItem(origin(job.id), jobId);
	return job.id;
}

/** Return what `retrain` would train, and how long it takes.
 *
 *  @param {string} jobId @param {Partial<Schemas["Retraining"]>} changes @param {AbortSignal} signal */
export function checkRetraining(jobId, changes, signal) {
	const path = /** @type {const} */ (`/jobs/${encodeURIComponent(jobId)}/retrain?dry_run=true`);
	return requestJson(path, { method: "POST", json: changes, signal });
}

/** Return the id of the job that a job repeats with another base model, as far as this tab knows, or null.
 *
 *  @param {string} jobId */
export function originOf(jobId) {
	return sessionStorage.getItem(origin(jobId));
}

/** @param {string} jobId */
const origin = (jobId) => `clipcite-origin-${jobId}`;
