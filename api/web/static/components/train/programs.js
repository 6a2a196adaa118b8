// The draft of a training as programs.

import { draft } from "../../lib/training/training_draft.js";
import { codeFor, curl, javascript, literal, python } from "../code.js";

/** Create the fold with the programs. */
export function trainingPrograms() {
	const name = () => draft.settings.name.trim();
	/** Return the settings, or null without any. */
	function config() {
		const all = { ...draft.config(), ...draft.shots.prompts() };
		return Object.keys(all).length ? all : null;
	}
	return codeFor({
		curl() {
			/** @type {[string, string][]} */
			const options = [["-F", "archive=@images.zip"]];
			if (config()) options.push(["-F", `config=${JSON.stringify(config())}`]);
			if (name()) options.push(["-F", `name=${name()}`]);
			return `# images.zip contains one folder per class\n${curl("/adapt", options)}`;
		},
		python() {
			const more = `${name() && `, name=${literal(name())}`}${config() ? ", config=config" : ""}`;
			return python([
				config() !== null && `config = ${literal(config())}`,
				`job = client.adapt("images"${more})  # contains one folder per class`,
				"print(job.wait().model_id)",
			]);
		},
		javascript() {
			const fields = { ...(config() && { config: config() }), ...(name() && { name: name() }) };
			const lines = ["console.log(body.id, body.status);"];
			return javascript("/adapt", { method: "POST", fields, files: { archive: "images.zip" }, lines });
		},
	});
}
