// "Use on phone": the address of this view for a phone's camera. Phones reach the service only over https.

import { button, h, modal, titledDialog } from "../../lib/dom.js";
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
	const words = "Scan it with the phone's camera. If the service asks for a key there, create one for the phone with ";
	const close = button("Close", () => dialog.close());
	const picture = h("img", { class: "qr", src: image, alt: `QR code of ${address}` });
	const hint = h("p", {}, words, h("code", {}, "clipcite keys create"), ".");
	const dialog = titledDialog("Use on phone", [picture, hint], close);
	await modal(dialog);
	URL.revokeObjectURL(image);
}
