// Zip reader: parses the central directory and inflates with the browser's DecompressionStream.

const END = 0x06054b50;
const DIRECTORY = 0x02014b50;
const STORED = 0;
const DEFLATED = 8;
const MAX_FILE_BYTES = 100_000_000; // larger files are no images

class BadZip extends Error {}

/** Return the files of the archive as [{path, file}]. Throws BadZip with a message for the user. */
export async function unzip(archive) {
	const tail = await view(archive, Math.max(0, archive.size - 65_557), archive.size);
	let end = tail.byteLength - 22;
	while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
	if (end < 0) throw new BadZip(`${archive.name} is not a zip, or is incomplete. Drop its folders instead.`);
	const entries = tail.getUint16(end + 10, true);
	const at = tail.getUint32(end + 16, true);
	if (entries === 0xffff || at === 0xffffffff) {
		throw new BadZip(`${archive.name} is too large for the browser. Unpack it and drop its folders.`);
	}
	const directory = await view(archive, at, at + tail.getUint32(end + 12, true));
	const files = [];
	for (let i = 0, offset = 0; i < entries; i += 1) {
		const entry = entryAt(archive, directory, offset);
		offset = entry.next;
		if (!entry.name.endsWith("/")) files.push({ path: entry.name.split("/"), file: await fileOf(archive, entry) });
	}
	return files;
}

function entryAt(archive, directory, offset) {
	if (offset + 46 > directory.byteLength || directory.getUint32(offset, true) !== DIRECTORY) {
		throw new BadZip(`${archive.name} is damaged. Unpack it and drop its folders.`);
	}
	const lengths = [28, 30, 32].map((position) => directory.getUint16(offset + position, true));
	const bytes = new Uint8Array(directory.buffer, directory.byteOffset + offset + 46, lengths[0]);
	let name;
	try {
		name = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
	} catch {
		throw new BadZip(`The names in ${archive.name} are not UTF-8. Unpack it and drop its folders.`);
	}
	return {
		name,
		encrypted: Boolean(directory.getUint16(offset + 8, true) & 1),
		method: directory.getUint16(offset + 10, true),
		packed: directory.getUint32(offset + 20, true),
		unpacked: directory.getUint32(offset + 24, true),
		time: timeOf(directory.getUint16(offset + 14, true), directory.getUint16(offset + 12, true)),
		at: directory.getUint32(offset + 42, true),
		next: offset + 46 + lengths[0] + lengths[1] + lengths[2],
	};
}

async function fileOf(archive, entry) {
	const readable = !entry.encrypted && [STORED, DEFLATED].includes(entry.method) && entry.unpacked <= MAX_FILE_BYTES;
	if (!readable) {
		const reason = "encrypted, too large or compressed with an unknown method";
		throw new BadZip(`${entry.name} in ${archive.name} is ${reason}. Unpack the zip and drop its folders.`);
	}
	const head = await view(archive, entry.at, entry.at + 30);
	const from = entry.at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
	const packed = archive.slice(from, from + entry.packed);
	const stream = packed.stream();
	const plain = entry.method === STORED ? stream : stream.pipeThrough(new DecompressionStream("deflate-raw"));
	let body;
	try {
		body = await new Response(plain).blob();
	} catch {
		body = new Blob([]); // damaged: listed as an unreadable image
	}
	return new File([body], entry.name.split("/").at(-1), { lastModified: entry.time });
}

/** Return the milliseconds of a DOS date and time. @param {number} date @param {number} time */
function timeOf(date, time) {
	return new Date(
		1980 + (date >> 9),
		((date >> 5) & 15) - 1,
		date & 31,
		time >> 11,
		(time >> 5) & 63,
		2 * (time & 31),
	).getTime();
}

async function view(archive, from, to) {
	return new DataView(await archive.slice(from, to).arrayBuffer());
}
