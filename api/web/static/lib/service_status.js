// Whether the service is there, said at the top of the page when it is not.

const EVERY = 10_000;
const SOON = 2_000;

export function watchService() {
  const notice = document.getElementById("notice");
  async function look() {
    let words = "";
    try {
      const answer = await fetch("/readyz");
      const state = await answer.json();
      if (!answer.ok) words = "The service is starting. It will be ready in a moment.";
      else if (state.status === "degraded") words = "New jobs have to wait: a part of the service is away. Its log says more.";
    } catch {
      words = "The service can't be reached. This page goes on by itself when it is back; nothing is lost.";
    }
    if (notice.textContent !== words) notice.textContent = words;
    notice.hidden = !words;
    setTimeout(look, words ? SOON : EVERY);
  }
  look();
}
