// A job's events as they happen, over reloads and restarts.

import { call, Problem } from "./http.js";

const PATIENCE = [500, 1000, 2000, 4000];

/** Call `onEvent({name, seq, type, at, data})` for each event until the job has ended.
 *
 *  EventSource can't send a key, so the stream is read here. When it breaks off, `onLost(true)` is called
 *  and it goes on after the last event that was seen; `onLost(false)` when it is back.
 *  Throws Problem when the job is gone or the key no longer opens. */
export async function follow(jobId, { onEvent, onLost, signal }) {
  let last = 0;
  let failures = 0;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const response = await call(`/jobs/${jobId}/events`, { headers, signal });
      onLost(false);
      failures = 0;
      if (response.status === 204) return;
      for await (const event of parsed(response.body)) {
        last = event.seq;
        onEvent(event);
        if (event.name === "done") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && [401, 403, 404].includes(error.status)) throw error;
      onLost(true);
    }
    const pause = PATIENCE[Math.min(failures, PATIENCE.length - 1)];
    failures += 1;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** The events of a stream, as they come. */
async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have broken off, which is known
  }
}

function eventOf(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (name) fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
  }
  return fields.data ? { name: fields.event, ...JSON.parse(fields.data) } : null; // null: a comment, or `retry`
}
