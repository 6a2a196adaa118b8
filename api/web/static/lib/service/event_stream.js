// Live event stream of a job, resumed after lost connections.

import { call, Problem } from "./http.js";

/** @typedef {Omit<Schemas["Event"], "data"> & { name: string, data: any }} StreamEvent */

const RETRY_DELAYS_MS = [500, 1000, 2000, 4000];

/** Call `onEvent` for each event until the job has ended.
 *
 *  EventSource can't send a key, so the stream is parsed here. A lost stream calls `onLost(true)` and
 *  resumes after the last event. `onLost(false)` reports the new connection.
 *  Throws Problem if the job is gone or the key is no longer valid.
 *
 *  @param {string} jobId
 *  @param {{ onEvent: (event: StreamEvent) => void, onLost: (isLost: boolean) => void, signal: AbortSignal }} options */
export async function follow(jobId, { onEvent, onLost, signal }) {
	let last = 0;
	let failures = 0;
	while (!signal.aborted) {
		try {
			const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
			const response = await call(`/jobs/${encodeURIComponent(jobId)}/events`, { headers, signal });
			onLost(false);
			failures = 0;
			if (response.status === 204) return;
			for await (const event of parseEvents(response.body)) {
				last = event.seq;
				onEvent(event);
				if (event.name === "done") return;
			}
		} catch (error) {
			if (signal.aborted) return;
			if (error instanceof Problem && [401, 403, 404].includes(error.status)) throw error;
			onLost(true);
		}
		const pause = RETRY_DELAYS_MS[Math.min(failures, RETRY_DELAYS_MS.length - 1)];
		failures += 1;
		await new Promise((resolve) => setTimeout(resolve, pause));
	}
}

/** Yield the events of a stream. @returns {AsyncGenerator<StreamEvent>} */
async function* parseEvents(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	try {
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return;
			const blocks = (rest + value).split("\n\n");
			rest = blocks.pop() ?? "";
			for (const block of blocks) {
				const event = parseEvent(block);
				if (event) yield event;
			}
		}
	} finally {
		reader.cancel().catch(() => {}); // the stream may have ended already
	}
}

function parseEvent(block) {
	/** @type {Record<string, string>} */
	const fields = {};
	for (const line of block.split("\n")) {
		const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
		if (name) fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
	}
	return fields.data ? { name: fields.event, ...JSON.parse(fields.data) } : null; // null for a comment or `retry`
}
