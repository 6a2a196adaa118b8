// Banner about the pre-trained model: the starter, a download, its end.

import { announce, button, h, replace } from "../../lib/dom.js";
import { newKey } from "../../lib/ids.js";
import { call, requestJson } from "../../lib/service/http.js";
import { retrain } from "../../lib/training/retrain.js";
import { list, size, timeToTrain } from "../../lib/words.js";
import { modelsDialog } from "./models.js";

const POLL_MS = 1_000;
const PHOTOS = 40;
const ANSWERED = "clipcite-clip-answered"; // "no" after "Not now"
const WANTED = "clipcite-clip-wanted"; // name of the model that this browser asked for

/** Fill the banner, and keep it up to date. Returns a function that takes each state of GET /readyz. */
export function clipBanner(banner) {
	let timer = 0;
	let shown = "";
	let start = null; // of the download: its bytes and the time when this page first saw it
	let usesStarter = false;
	let acting = false;
	const keyOf = newKey();
	const words = h("span", {});
	const buttons = h("span", { class: "banner-buttons" });
	replace(banner, words, buttons);

	const link = (text, onclick) => button(text, () => act(onclick), "link");
	const others = () => link("Other models", () => modelsDialog({ get, use }));

	async function act(action) {
		if (acting) return; // a double click
		acting = true;
		try {
			await action();
		} catch (error) {
			return show(`failed ${error.message}`, error.message, [link("Back", () => refresh())]);
		} finally {
			acting = false;
		}
		await refresh();
	}
	async function get({ name }) {
		localStorage.setItem(WANTED, name);
		await call(`/backbones/${name}/pull?use=true`, { method: "POST" });
	}
	async function use({ name }) {
		localStorage.removeItem(WANTED);
		await call("/backbones/default", { method: "PUT", json: { name } });
	}
	async function trainAgain(model, { name }) {
		const key = keyOf([model.job_id, name]);
		const id = await retrain(model.job_id, { config: { backbone: name } }, { key });
		localStorage.removeItem(WANTED);
		location.hash = `#/jobs/${encodeURIComponent(id)}`;
	}
	const stop = ({ name }) => call(`/backbones/${name}/pull`, { method: "DELETE" });

	/** Show words and buttons. Buttons of the same kind stay, so that they keep the focus. */
	function show(kind, text, made) {
		replace(words, text, " ");
		if (kind === shown) return;
		if (shown && kind) announce(words.textContent);
		if (shown) document.dispatchEvent(new Event("base-models")); // installed, or another default
		shown = kind;
		replace(buttons, made);
		banner.hidden = !kind;
	}

	async function draw({ data, recommendation, fixed }) {
		const active = data.find(({ state }) => state === "downloading" || state === "checking");
		const failed = data.find(({ state }) => state === "failed");
		const chosen = data.find((row) => row.default);
		const best = data.find(({ recommended }) => recommended);
		if (active?.state !== "downloading") start = null;
		if (active?.state === "checking") return show("checking", `Checking ${active.title} …`, []);
		if (active)
			return show(
				`downloading ${active.name}`,
				`Getting ${active.title}${amount(active.progress)}. You can go on with the starter.`,
				[link("Stop", () => stop(active))],
			);
		if (failed)
			return show(`failed ${failed.name}`, `Couldn't get ${failed.title}: ${failed.error} The starter keeps working.`, [
				link("Try again", () => get(failed)),
				link("Dismiss", () => stop(failed)),
			]);
		if (chosen?.state === "available" && !fixed)
			return show("removed", `${chosen.title}, the model for new trainings, was removed from this machine.`, [
				link("Get it again", () => get(chosen)),
				link("Use the starter", () => use({ name: "starter" })),
			]);
		if (chosen && chosen.name !== "starter") {
			if (localStorage.getItem(WANTED) !== chosen.name) return show("", "", []);
			const again = await newestOfStarter();
			return show("ready", `${chosen.title} is ready. New trainings use it.`, [
				again &&
					link(`Train ‘${again.name ?? list(again.trained_classes)}’ again with CLIP`, () => trainAgain(again, chosen)),
				link("Keep the starter as default", () => use({ name: "starter" })),
				link("Close", () => localStorage.removeItem(WANTED)),
			]);
		}
		const starter = "You're using the small starter model.";
		if (fixed) return show("fixed", `${starter} The operator has chosen the model.`, []);
		if (localStorage.getItem(ANSWERED)) return show("answered", starter, [others()]);
		if (!best) return show("too small", `${starter} ${recommendation}`, [others(), notNow()]);
		const here = best.state === "installed";
		const facts = [!here && size(best.bytes), timeToTrain(best, PHOTOS)].filter(Boolean);
		return show(
			"offer",
			[
				`${starter} `,
				h("strong", {}, `${best.title} ${here ? "is installed" : "fits this machine"}`),
				facts.length ? ` (${facts.join(", ")}).` : ".",
			],
			[link(here ? "Use it" : "Get it", () => (here ? use(best) : get(best))), others(), notNow()],
		);
	}
	const notNow = () => link("Not now", () => localStorage.setItem(ANSWERED, "no"));

	/** Return "212 of 599 MB, about 1 min left", as far as it is known. */
	function amount(progress) {
		if (!progress?.total_bytes) return "";
		const { done_bytes: done, total_bytes: total } = progress;
		start ??= { done, at: performance.now() };
		const rate = (done - start.done) / (performance.now() - start.at);
		const left = rate > 0 ? `, about ${minutes((total - done) / rate / 1000)} left` : "";
		return `: ${Math.floor(done / 1e6)} of ${size(total)}${left}`;
	}

	async function refresh() {
		clearTimeout(timer);
		try {
			const listed = await requestJson("/backbones", { quiet: true });
			await draw(listed);
			if (/^(downloading|checking)/.test(shown) && !document.hidden) timer = setTimeout(refresh, POLL_MS);
		} catch {
			show(usesStarter ? "unknown" : "", "You're using the small starter model.", []); // without a key, for example
		}
	}

	return (state) => {
		usesStarter = state.backbone === "starter";
		if (usesStarter || shown || localStorage.getItem(WANTED)) refresh();
	};
}

async function newestOfStarter() {
	const { data } = await requestJson("/models?limit=50", { quiet: true });
	return data.find((model) => model.backbone === "starter" && model.job_id);
}

function minutes(seconds) {
	return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}
