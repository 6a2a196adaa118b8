// JSON schemas of the OpenAPI document as rows of a table.

function resolved(schema, spec) {
	if (!schema?.$ref) return schema ?? {};
	const path = schema.$ref.replace("#/", "").split("/");
	return path.reduce((at, name) => at?.[name], spec) ?? {};
}

/** Return a type as text: "text", "list of number", "Job or null", … */
export function typeOf(schema, spec) {
	if (!schema) return "";
	if (schema.$ref) {
		const target = resolved(schema, spec);
		return target.properties ? schema.$ref.split("/").at(-1) : typeOf(target, spec);
	}
	if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
	if (schema.const !== undefined) return JSON.stringify(schema.const);
	const choices = schema.anyOf ?? schema.oneOf;
	if (choices) return [...new Set(choices.map((choice) => typeOf(choice, spec)))].join(" or ");
	if (schema.type === "array") return `list of ${typeOf(schema.items, spec) || "anything"}`;
	if (schema.format === "binary" || schema.contentMediaType) return "file";
	if (schema.type === "string") return schema.format === "date-time" ? "time" : "text";
	return `${schema.type ?? "anything"}${rangeOf(schema)}`;
}

function rangeOf({ minimum, maximum }) {
	if (minimum === undefined && maximum === undefined) return "";
	if (maximum === undefined) return ` from ${minimum}`;
	return minimum === undefined ? ` up to ${maximum}` : ` from ${minimum} to ${maximum}`;
}

/** Return the fields of an object as [{name, type, required, description}]; empty for other types. */
export function fieldsOf(schema, spec) {
	const target = resolved(schema, spec);
	const needed = new Set(target.required ?? []);
	return Object.entries(target.properties ?? {}).map(([name, field]) => ({
		name,
		type: typeOf(field, spec),
		required: needed.has(name),
		description: described(field, spec),
	}));
}

function described(field, spec) {
	const text = field.description ?? resolved(field, spec).description ?? "";
	return field.default == null ? text : `${text} Default ${JSON.stringify(field.default)}.`;
}

/** Return the first example of the schema, or undefined. */
export function exampleOf(schema, spec) {
	return resolved(schema, spec).examples?.[0];
}
