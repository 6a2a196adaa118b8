// Requests that wait until the service is available.

const RETRY_MS = 2_000;

/** Say whether a request with this error may succeed later: the service can't be reached, restarts, or is too busy.
 *
 *  @param {any} error */
export function isPassing({ name, status = 503 }) {
	return name !== "AbortError" && status >= 502 && status !== 507; // a full disk stays full
}

/** Retry while the service is restarting, or too busy with other requests.
 *
 *  @template T @param {() => Promise<T>} act @param {AbortSignal} signal */
export async function patiently(act, signal) {
	for (;;) {
		try {
			return await act();
		} catch (error) {
			if (!isPassing(error)) throw error;
			await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
			signal.throwIfAborted();
		}
	}
}
