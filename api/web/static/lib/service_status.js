// Banner at the top of the page while the service is starting, degraded or unreachable.

const POLL_MS = 10_000;
const RETRY_MS = 2_000;

export function watchService() {
  const notice = document.getElementById("notice");
  async function poll() {
    let words = "";
    try {
      const response = await fetch("/readyz");
      const state = await response.json();
      if (!response.ok) words = "The service is starting.";
      else if (state.status === "degraded") words = "Part of the service is unavailable, so new jobs wait. See the log of the service.";
    } catch {
      words = "Can't reach the service. This page reconnects by itself; nothing is lost.";
    }
    if (notice.textContent !== words) notice.textContent = words;
    notice.hidden = !words;
    setTimeout(poll, words ? RETRY_MS : POLL_MS);
  }
  poll();
}
