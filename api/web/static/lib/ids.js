// Idempotency keys.

/** Return a function that gives equal content the same key, so that a retry after a lost response creates no second job. */
export function newKey() {
	const keys = new Map();
	return (content) => {
		const text = JSON.stringify(content);
		if (!keys.has(text)) keys.set(text, randomKey());
		return keys.get(text);
	};
}

/** Return 32 hexadecimal digits. `crypto.randomUUID` is missing over plain http from another machine. */
function randomKey() {
	return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
