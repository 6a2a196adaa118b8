// The images whose labels teach most: unsure, and spread over the collection (benchmarks/plans/which-next.md).

import { isGuess } from "./groups.js";

/** Pick up to `max` images without a label: first the one with the smallest lead of the best class over the second, then
 *  each time the one with the largest (1 − lead) · distance from the nearest picked one. */
export function mostUseful(images, max) {
  const rest = images.filter(isGuess).map((image) => ({ image, doubt: 1 - lead(image), vector: vectorOf(image), distance: null }));
  const picked = [];
  while (rest.length && picked.length < max) {
    const value = ({ doubt, distance }) => doubt * (distance ?? 1);
    const best = rest.reduce((first, other) => (value(other) > value(first) ? other : first));
    picked.push(best.image);
    rest.splice(rest.indexOf(best), 1);
    for (const other of rest) other.distance = Math.min(other.distance ?? Infinity, 1 - cosine(other.vector, best.vector));
  }
  return picked;
}

function lead({ predictions: [first, second] }) {
  return first.probability - (second?.probability ?? 0);
}

/** Return the features of an image with length 1, from base64 of little-endian float16. Without features, an empty list. */
function vectorOf({ features }) {
  const bytes = Uint8Array.from(atob(features ?? ""), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = Float32Array.from({ length: bytes.length / 2 }, (_, i) => float16(view.getUint16(2 * i, true)));
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return values.map((value) => value / (length || 1));
}

/** Decode a finite float16. Browsers of 2024 have no Float16Array. */
function float16(bits) {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  return (bits & 0x8000 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}

function cosine(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}
