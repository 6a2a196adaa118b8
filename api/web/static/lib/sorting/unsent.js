// Answers that the service doesn't have yet. The browser keeps them, so that they outlive their page, even if the browser is
// killed: its storage for sessions would forget them then.

const STORE = "unsent"; // lists of answers, by pile and page
const PAGE = Math.random(); // two pages may have answers for one pile

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

function database() {
	opened ??= new Promise((resolve, reject) => {
		const request = indexedDB.open("clipcite", 1);
		request.onupgradeneeded = () => request.result.createObjectStore(STORE);
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
	return opened;
}

/** Read or change the stored lists. Returns "done", "full" if this device has no room for them, or "unavailable": a browser that
 *  stores nothing, as in some private windows, is no error, since the page has the answers.
 *
 *  @param {(lists: IDBObjectStore) => void} act @returns {Promise<"done" | "full" | "unavailable">} */
async function withLists(act) {
	try {
		const transaction = (await database()).transaction(STORE, "readwrite");
		act(transaction.objectStore(STORE));
		transaction.commit(); // also if the page ends now
		await new Promise((resolve, reject) => {
			transaction.oncomplete = resolve;
			transaction.onabort = () => reject(transaction.error);
		});
		return "done";
	} catch (error) {
		return error?.name === "QuotaExceededError" ? "full" : "unavailable";
	}
}

/** @param {string} id */
const listsOf = (id) => IDBKeyRange.bound([id], [id, []]);

/** Return the answers of a pile that earlier pages could not send, and the keys of their lists.
 *
 *  @param {string} id @returns {Promise<{ answers: PileAnswer[], keys: IDBValidKey[] }>} */
export async function unsentOf(id) {
	/** @type {IDBRequest[]} */
	let requests = [];
	const outcome = await withLists((lists) => {
		requests = [lists.getAll(listsOf(id)), lists.getAllKeys(listsOf(id))];
	});
	return outcome === "done"
		? { answers: requests[0].result.flat(), keys: requests[1].result }
		: { answers: [], keys: [] };
}

/** Keep these answers of a pile, which this page has not sent yet, instead of the lists with these keys.
 *
 *  @param {string} id @param {PileAnswer[]} answers @param {IDBValidKey[]} [keys] */
export function keepUnsent(id, answers, keys = []) {
	const own = [id, PAGE];
	return withLists((lists) => {
		for (const key of [...keys, own]) lists.delete(key);
		if (answers.length) lists.put(answers, own);
	});
}

/** Forget the answers of a pile. @param {string} id */
export function forgetUnsent(id) {
	return withLists((lists) => lists.delete(listsOf(id)));
}
