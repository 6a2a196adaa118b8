// Stored images of a job. They are fetched, since an <img> can't send the API key.

import { call, requestJson } from "../service/http.js";

const path = (jobId) => `/jobs/${encodeURIComponent(jobId)}/images`;

/** Return the images of a job: [{position, split, class_name, file_name}]. */
export async function listImages(jobId, signal) {
  return (await requestJson(path(jobId), { signal })).data;
}

/** Return a JPEG of the image, at most `side` pixels wide and high. */
export async function imageBlob(jobId, position, side, signal) {
  return (await call(`${path(jobId)}/${position}?side=${side}`, { signal })).blob();
}

/** Pick up to `max` images, one of each class in turn. */
export function spread(images, max) {
  const classes = Map.groupBy(images, (image) => image.class_name);
  const picked = [];
  for (let i = 0; picked.length < Math.min(max, images.length); i += 1) {
    for (const group of classes.values()) if (group[i]) picked.push(group[i]);
  }
  return picked.slice(0, max);
}
