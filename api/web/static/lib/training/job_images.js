// Stored images of a job. They are fetched, since an <img> can't send the API key.

import { call, requestJson } from "../service/http.js";

/** Return the images of a job. @param {string} jobId @param {AbortSignal} [signal] */
export async function listImages(jobId, signal) {
	return (await requestJson(`/jobs/${encodeURIComponent(jobId)}/images`, { signal })).data;
}

/** Return a JPEG of the image, at most `side` pixels wide and high.
 *
 *  @param {string} jobId @param {number} position @param {number} side @param {AbortSignal} [signal] */
export async function imageBlob(jobId, position, side, signal) {
	return (await call(`/jobs/${encodeURIComponent(jobId)}/images/${position}?side=${side}`, { signal })).blob();
}

/** Pick up to `max` images, one of each class in turn. @param {StoredImage[]} images @param {number} max */
export function spread(images, max) {
	const classes = Map.groupBy(images, (image) => image.class_name);
	const picked = [];
	for (let i = 0; picked.length < Math.min(max, images.length); i += 1) {
		for (const group of classes.values()) if (group[i]) picked.push(group[i]);
	}
	return picked.slice(0, max);
}
