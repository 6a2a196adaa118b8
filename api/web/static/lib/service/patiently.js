// Requests that wait until the service is available.

const RETRY_MS = 2_000;

/** Retry while the service is restarting, or too busy with other requests.
 *
 *  @template T @param {() => Promise<T>} act @param {AbortSignal} signal */
export async function patiently(act, signal) {
	for (;;) {
		try {
			return await act();
		} catch (error) {
			const { status = 503 } = error; // none if it can't be reached
			if (error.name === "AbortError" || status < 502) throw error;
			await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
			signal.throwIfAborted();
		}
	}
}
