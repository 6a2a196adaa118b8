// What a JSON schema of the document says, in the words of a table.

function resolved(schema, whole) {
  if (!schema?.$ref) return schema ?? {};
  const path = schema.$ref.replace("#/", "").split("/");
  return path.reduce((at, name) => at?.[name], whole) ?? {};
}

/** "text", "list of number", "Job or null", … */
export function typeOf(schema, whole) {
  if (!schema) return "";
  if (schema.$ref) {
    const target = resolved(schema, whole);
    return target.properties ? schema.$ref.split("/").at(-1) : typeOf(target, whole);
  }
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map((choice) => typeOf(choice, whole)))].join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items, whole) || "anything"}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  if (schema.type === "string") return schema.format === "date-time" ? "time" : "text";
  return `${schema.type ?? "anything"}${rangeOf(schema)}`;
}

function rangeOf({ minimum, maximum }) {
  if (minimum === undefined && maximum === undefined) return "";
  if (maximum === undefined) return ` from ${minimum}`;
  return minimum === undefined ? ` up to ${maximum}` : ` from ${minimum} to ${maximum}`;
}

/** The fields of an object, [{name, type, required, description}]; empty for what is no object. */
export function fieldsOf(schema, whole) {
  const target = resolved(schema, whole);
  const needed = new Set(target.required ?? []);
  return Object.entries(target.properties ?? {}).map(([name, field]) => ({
    name,
    type: typeOf(field, whole),
    required: needed.has(name),
    description: field.description ?? resolved(field, whole).description,
  }));
}

/** The example that the schema brings, if it does. */
export function exampleOf(schema, whole) {
  return resolved(schema, whole).examples?.[0];
}
