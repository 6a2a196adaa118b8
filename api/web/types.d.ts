// Types for the page's JavaScript. Those of the service come from its OpenAPI document: `make check-page`.

import type { components, paths } from "../../build/openapi";

type Segments<Path extends string> = Path extends `${infer First}/${infer Rest}` ? [First, ...Segments<Rest>] : [Path];
type Placed<Path extends string[]> = { [I in keyof Path]: Path[I] extends `{${string}}` ? string : Path[I] };
/** Route in the document of a path such as `/jobs/${string}/report`. */
type RouteOf<Path extends string> = Path extends keyof paths
	? Path
	: { [Route in keyof paths]: Segments<Path> extends Placed<Segments<Route>> ? Route : never }[keyof paths];
type Responses<Path extends string, M extends Method> = paths[RouteOf<Path>] extends {
	[L in Lowercase<M>]: { responses: infer R };
}
	? R
	: never;
type Json<Response> = Response extends { content: { "application/json": infer Body } } ? Body : never;
type Sent<R> = R extends { 202: infer A } ? A : R extends { 201: infer A } ? A : R extends { 200: infer A } ? A : never;

declare global {
	/** Of Swagger UI, which /docs loads first. */
	var SwaggerUIBundle: (options: object) => void;
	// Events of the document.
	interface DocumentEventMap {
		/** The code of the error, and the key that was sent. */
		"key-needed": CustomEvent<{ code: string; sent: string }>;
		owner: CustomEvent<string>;
		"base-models": Event;
	}
	type Child = Node | string | false | null | undefined | Child[];
	// biome-ignore lint/suspicious/noExplicitAny: attributes and listeners of all elements
	type Properties = Record<string, any>;

	type Schemas = components["schemas"];
	type Backbone = Schemas["BackboneRow"];
	type Calibration = Schemas["Calibration"];
	type Job = Schemas["Job"];
	type Metrics = Schemas["Metrics"];
	type Model = Schemas["Model"];
	type Prediction = Schemas["Prediction"];
	type Progress = Schemas["Progress"];
	type Readiness = Schemas["Readiness"];
	type JobReport = Schemas["Report"];
	type StoredImage = Schemas["JobImage"];

	/** A model, or the instant preview of a job, whose id it has. */
	type ChoosableModel = Pick<Model, "id" | "job_id" | "name" | "trained_classes" | "backbone"> &
		Partial<Model> & { preview?: boolean };
	/** An image of this page. */
	interface PageImage {
		file: File;
		name: string;
		path?: string[];
		/** Of the thumbnail, once the image was read. */
		url?: string;
		hash?: string | null;
		/** Its check and its thumbnail from the service, once they have begun. */
		inspected?: Promise<void>;
		thumbnail?: Promise<string | undefined>;
		/** Its thumbnail was revoked. */
		forgotten?: boolean;
		width?: number;
		height?: number;
		problem?: { level: "bad" | "note"; detail: string; duplicate?: boolean; service?: boolean } | null;
	}
	/** Class that a person gives to an image: its name, NONE of lib/sorting/groups.js, or null without a label. */
	type Label = string | symbol | null;
	/** A photo of a pile, with its place in the last sort. */
	interface Photo extends Omit<Schemas["PileImage"], "answer"> {
		name: string;
		answer: Schemas["PileLabel"] | null;
		place: Schemas["SortedImage"] | null;
	}
	type PileAnswer = Omit<Schemas["AnswerIn"], "class_name"> & { class_name?: string | null };
	interface DroppedFile {
		path: string[];
		file: File;
	}
	/** An image with its place. */
	interface PlacedFile extends DroppedFile {
		name: string;
		/** Its folder; null for an image in no folder. */
		folder: string | null;
		className: string | null;
		split: "train" | "test";
	}
	interface ClassName {
		name: string;
		prompts: string[];
	}
	/** Options of a classification. */
	interface Options {
		model?: string | null;
		class_names: (ClassName | string)[];
		alpha?: number;
	}

	type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
	interface CallOptions<M extends Method> {
		method?: M;
		json?: object;
		body?: BodyInit;
		headers?: Record<string, string>;
		signal?: AbortSignal;
		quiet?: boolean;
	}
	/** JSON that a route answers with, by the path of the request. */
	type Answer<Path extends string, M extends Method = "GET"> = Path extends `${infer Plain}?${infer Query}`
		? Query extends `dry_run=${string}`
			? Json<Responses<Plain, M> extends { 200: infer A } ? A : never>
			: Json<Sent<Responses<Plain, M>>>
		: Json<Sent<Responses<Path, M>>>;
}
