// Frame around every view: notice about the service, banner of the pre-trained model, footer.

import { byId, h, replace } from "../lib/dom.js";
import { watchService } from "../lib/service/service_status.js";
import { clipBanner } from "./clip/banner.js";

const DEVICES = { cpu: "CPU", cuda: "GPU" };

/** Fill the frame, and keep it up to date. */
export function pageFrame() {
	const [notice, banner, service] = ["notice", "starter", "service"].map(byId);
	const showBanner = clipBanner(banner);
	watchService((words, state) => {
		if (notice.textContent !== words) notice.textContent = words;
		notice.hidden = !words;
		if (!state?.version) return; // keep the last known values
		showBanner(state);
		const backbone = state.backbone === "starter" ? "starter model" : state.backbone;
		replace(
			service,
			`clipcite ${state.version}, ${backbone} on ${DEVICES[state.device] ?? state.device}. `,
			h("a", { href: "/docs" }, "API documentation"),
		);
	});
}
