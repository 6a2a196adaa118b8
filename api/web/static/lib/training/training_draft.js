// The job that the Train view prepares: images, settings and upload. It outlives the view.

import { newKey } from "../ids.js";
import { upload } from "../service/http.js";
import { Shots } from "./training_form.js";

class TrainingDraft extends EventTarget {
	shots = new Shots();
	/** @type {{ name: string, backbone: string | null, epochs: number | null }} null: the service's default */
	settings = { name: "", backbone: null, epochs: null };
	/** Uploaded fraction, from 0 to 1; null while nothing is sent. @type {number | null} */
	sent = null;
	/** Error of the last upload as {error, details}; `details` belong to no image. @type {{ error: any, details: string[] } | null} */
	failure = null;
	#keyOf = newKey();

	config() {
		const { backbone, epochs } = this.settings;
		return { ...(backbone ? { backbone } : null), ...(epochs ? { epochs } : null) };
	}

	/** Upload the images and start the job, even if the view is left meanwhile. Returns the job, or null after an
	 *  error. Afterwards the draft has only the images that were added meanwhile. */
	async send() {
		if (this.sent !== null) return null;
		const { shots, settings } = this;
		const name = settings.name.trim();
		const { form, files } = shots.form({ name, config: this.config() });
		const headers = { "Idempotency-Key": this.#keyOf(shots.fingerprint([name, this.config()])) };
		this.failure = null;
		this.#progress(0);
		try {
			const job = await upload("/adapt", form, { headers, onprogress: (fraction) => this.#progress(fraction) });
			shots.clear(files.values()); // others were added during the upload
			Object.assign(settings, { name: "", backbone: null, epochs: null });
			this.dispatchEvent(new CustomEvent("submitted", { detail: job }));
			return job;
		} catch (error) {
			if (error.code === "idempotent_job_deleted") this.#keyOf = newKey();
			this.failure = { error, details: error.errors ? shots.mark(error.errors, files, () => "bad") : [] };
			return null;
		} finally {
			this.#progress(null);
		}
	}

	#progress(fraction) {
		this.sent = fraction;
		this.dispatchEvent(new Event("progress"));
	}
}

export const draft = new TrainingDraft();

addEventListener("beforeunload", (event) => {
	if (draft.sent !== null || draft.shots.images.length) event.preventDefault(); // the browser asks first
});
