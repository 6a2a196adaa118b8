// Page while the service starts: reloads as soon as the service itself responds.

const POLL_MS = 500;

async function poll() {
	const state = await fetch("/readyz")
		.then((response) => response.json())
		.catch(() => null);
	if (state?.parts?.database) location.reload();
	else setTimeout(poll, POLL_MS);
}
poll();
