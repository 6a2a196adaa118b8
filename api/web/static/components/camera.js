// The camera, and the recording of training images: hold a button, and images are taken until it is released.

import { announce, button, h, replace, unseen } from "../lib/dom.js";
import { count } from "../lib/words.js";

const SHOTS = 8; // images per recording
const INTERVAL_MS = 250;
const MAX_SIDE = 640; // pixels of a stored image: more than the input size of any model
/** @type {Record<string, string>} */
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
 *  when it is closed, when another one is opened, when `signal` is aborted, and when the page is hidden.
 *
 *  @param {HTMLElement} panel @param {AbortSignal} signal
 *  @param {(video: HTMLVideoElement, close: () => void, signal: AbortSignal) => HTMLElement} show */
export async function openCamera(panel, show, signal) {
	closeOpen();
	const opened = new AbortController();
	const until = AbortSignal.any([opened.signal, signal]);
	/** @type {MediaStream | null} */
	let stream = null;
	function turnOff() {
		for (const track of stream?.getTracks() ?? []) track.stop();
	}
	function close() {
		opened.abort();
		turnOff();
		replace(panel);
	}
	closeOpen = close;
	replace(panel, h("p", { class: "soft", role: "status" }, "Starting the camera …"));
	try {
		stream = await navigator.mediaDevices.getUserMedia({
			video: { facingMode: "environment", width: { ideal: 1280 } },
		});
	} catch (error) {
		const words = REFUSED[error.name] ?? `The camera can't be used: ${error.message} Choose image files instead.`;
		if (!until.aborted) replace(panel, h("p", { class: "problem", role: "alert" }, words));
		return;
	}
	if (until.aborted) return turnOff();
	const video = h("video", { playsinline: true, autoplay: true, muted: true, "aria-label": "Camera" });
	video.muted = true;
	video.srcObject = stream;
	replace(panel, show(video, close, until));
	panel.querySelector("button")?.focus();
	signal.addEventListener("abort", close, { signal: opened.signal });
	document.addEventListener("visibilitychange", () => document.hidden && close(), { signal: opened.signal });
}

/** Create the recorder. `add` gets a promise of the recorded files.
 *
 *  @param {(files: Promise<DroppedFile[]>) => void} add @param {HTMLVideoElement} video @param {() => void} close
 *  @param {AbortSignal} signal */
export function recorder(add, video, close, signal) {
	const status = h("p", { class: "soft", role: "status" });
	const hold = button("Hold to record", null, "main");
	const done = button(["Close", unseen(" the camera")], close);
	const hint = `Takes up to ${SHOTS} images. Turn the object a little while you hold the button.`;
	/** @type {DroppedFile[] | null} */
	let recording = null; // files of the current recording
	let timer = 0;
	/** @type {Promise<void> | null} */
	let taking = null; // the last frame
	let ending = false;

	async function take() {
		const files = recording;
		const item = await frame(video);
		if (!item || !files || recording !== files || files.length >= SHOTS) return;
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

/** Return the current frame as {path, file}, or null before the first one. @param {HTMLVideoElement} video */
export async function frame(video) {
	const blob = await still(video, MAX_SIDE);
	if (!blob) return null;
	taken += 1;
	const name = `camera ${taken}.jpg`;
	return { path: [name], file: new File([blob], name, { type: "image/jpeg" }) };
}

/** Return the current frame as JPEG, with at most `maxSide` pixels per side, or null before the first one.
 *
 *  @param {HTMLVideoElement} video @param {number} maxSide */
export async function still(video, maxSide) {
	if (!video.videoWidth) return null;
	const scale = Math.min(1, maxSide / Math.max(video.videoWidth, video.videoHeight));
	const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
	canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
	return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}
