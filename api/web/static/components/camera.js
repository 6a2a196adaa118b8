// The camera, and the recording of training images: hold a button, and images are taken until it is released.

import { announce, h, replace } from "../lib/dom.js";
import { count } from "../lib/words.js";

const SHOTS = 8; // images per recording
const INTERVAL_MS = 250;
const MAX_SIDE = 640; // pixels of a stored image: more than the input size of any model
const REFUSED = {
  NotAllowedError: "The browser doesn't allow the camera. Allow it in the address bar, or choose image files.",
  NotFoundError: "This device has no camera. Choose image files instead.",
  NotReadableError: "The camera is used by another program. Close that program, then try again.",
};

let closeOpen = () => {};
let taken = 0;

/** True where the browser offers the camera, which needs https or localhost. */
export const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);

/** Open the camera in `panel`, which gets the element that `show(video, close, signal)` returns. The camera is turned off
 *  when it is closed, when another one is opened, when `signal` is aborted, and when the page is hidden. */
export async function openCamera(panel, show, signal) {
  closeOpen();
  const opened = new AbortController();
  const until = AbortSignal.any([opened.signal, signal]);
  let stream = null;
  const turnOff = () => stream?.getTracks().forEach((track) => track.stop());
  const close = (closeOpen = () => {
    opened.abort();
    turnOff();
    replace(panel);
  });
  replace(panel, h("p", { class: "soft", role: "status" }, "Starting the camera …"));
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch (error) {
    if (!until.aborted) replace(panel, h("p", { class: "problem", role: "alert" }, REFUSED[error.name] ?? `The camera can't be used: ${error.message}`));
    return;
  }
  if (until.aborted) return turnOff();
  const video = h("video", { playsinline: true, autoplay: true, muted: true, "aria-label": "Camera" });
  video.muted = true;
  video.srcObject = stream;
  replace(panel, show(video, close, until));
  panel.querySelector("button").focus();
  signal.addEventListener("abort", close, { signal: opened.signal });
  document.addEventListener("visibilitychange", () => document.hidden && close(), { signal: opened.signal });
}

/** Create the recorder. `add` gets a promise of the recorded files. */
export function recorder(add, video, close, signal) {
  const status = h("p", { class: "soft", role: "status" });
  const hold = h("button", { type: "button", class: "main" }, "Hold to record");
  const done = h("button", { type: "button", class: "quiet", onclick: close }, "Close", h("span", { class: "unseen" }, " the camera"));
  const hint = `Takes up to ${SHOTS} images. Turn the object a little while you hold the button.`;
  let recording = null; // files of the current recording
  let timer = 0;
  let taking = null; // promise of the last frame
  let ending = false;

  async function take() {
    const files = recording;
    const item = await frame(video);
    if (!item || recording !== files || files.length >= SHOTS) return;
    files.push(item);
    status.textContent = `${files.length} of ${SHOTS}`;
    if (files.length >= SHOTS) end();
  }
  function begin() {
    if (recording) return;
    recording = [];
    hold.classList.add("recording");
    taking = take();
    timer = setInterval(() => (taking = take()), INTERVAL_MS);
  }
  async function end() {
    const files = recording;
    if (!files || ending) return;
    ending = true;
    clearInterval(timer);
    hold.classList.remove("recording");
    await taking; // a tap is shorter than taking a frame
    recording = null;
    ending = false;
    status.textContent = hint;
    if (!files.length) return;
    announce(`${count(files.length, "image")} recorded.`);
    add(Promise.resolve(files));
  }
  status.textContent = hint;
  hold.addEventListener("pointerdown", (event) => {
    if (event.button === 0) begin();
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) hold.addEventListener(name, end);
  hold.addEventListener("pointerdown", (event) => hold.setPointerCapture(event.pointerId));
  hold.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a phone
  hold.addEventListener("keydown", (event) => {
    if (![" ", "Enter"].includes(event.key)) return;
    event.preventDefault();
    begin();
  });
  hold.addEventListener("keyup", end);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  return h("div", { class: "camera" }, video, h("div", { class: "row" }, hold, done), status);
}

/** Return the current frame as {path, file}, or null before the first one. */
export async function frame(video) {
  const blob = await still(video, MAX_SIDE);
  if (!blob) return null;
  taken += 1;
  const name = `camera ${taken}.jpg`;
  return { path: [name], file: new File([blob], name, { type: "image/jpeg" }) };
}

/** Return the current frame as JPEG, with at most `maxSide` pixels per side, or null before the first one. */
export async function still(video, maxSide) {
  if (!video.videoWidth) return null;
  const scale = Math.min(1, maxSide / Math.max(video.videoWidth, video.videoHeight));
  const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}
