// "Use on phone": the address of this view for a phone's camera. Phones reach the service only over https.

import { button, h, modal } from "../../lib/dom.js";
import { call } from "../../lib/service/http.js";
import { onPhone } from "../dropzone.js";

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;
export const hasAddress = location.protocol === "https:" && !LOOPBACK.test(location.hostname) && !onPhone;

/** Open a dialog with the QR code of the Try view of a model. The address has no key.
 *
 *  @param {string} model @param {AbortSignal} signal */
export async function showOnPhone(model, signal) {
	const address = `${location.origin}/#/try/${encodeURIComponent(model)}`;
	const code = await (await call(`/qr?url=${encodeURIComponent(address)}`, { signal })).blob();
	const image = URL.createObjectURL(code);
	const dialog = h(
		"dialog",
		{ class: "card", "aria-labelledby": "phone-title" },
		h("h2", { id: "phone-title" }, "Use on phone"),
		h("img", { class: "qr", src: image, alt: `QR code of ${address}` }),
		h(
			"p",
			{},
			"Scan it with the phone's camera. If the service asks for a key there, create one for the phone with ",
			h("code", {}, "clipcite keys create"),
			".",
		),
		h(
			"div",
			{ class: "row end" },
			button("Close", () => dialog.close()),
		),
	);
	await modal(dialog);
	URL.revokeObjectURL(image);
}
