// Training again from a job's stored images.

import { requestJson } from "../service/http.js";

/** Train again with corrected labels. Returns the id of the new job.
 *
 *  Positions are those of the report. `moved` maps positions to class names, `removed` lists images to leave
 *  out, and `confirmed` lists images whose labels are right. `key` is an idempotency key: a retry with the
 *  same key creates no second job. */
export async function retrain(jobId, { moved = {}, removed = [], confirmed = [] }, { key, signal } = {}) {
  const job = await requestJson(`/jobs/${encodeURIComponent(jobId)}/retrain`, {
    method: "POST",
    body: JSON.stringify({ moved, removed, confirmed }),
    headers: { "Content-Type": "application/json", ...(key && { "Idempotency-Key": key }) },
    signal,
  });
  const corrections = Object.keys(moved).length + removed.length;
  if (corrections) sessionStorage.setItem(stored(job.id), corrections);
  return job.id;
}

/** Return the number of labels that were corrected for a job of `retrain`, as far as this tab knows. */
export function correctionsOf(jobId) {
  return Number(sessionStorage.getItem(stored(jobId)));
}

const stored = (jobId) => `clipcite-corrections-${jobId}`;
