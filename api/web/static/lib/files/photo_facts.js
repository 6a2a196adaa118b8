// Time and size of a photo, from the first bytes of its file.

const HEAD = 262_144; // bytes; EXIF has at most 65,536, and an embedded colour profile may precede the size
const ORIENTATION = 0x0112;
const CHANGED = 0x0132;
const EXIF = 0x8769;
const TAKEN = 0x9003;

/** Return the time of a photo (ISO 8601, as the camera's clock had it) and its upright width and height. JPEG and PNG are
 *  read; for other files, for what a file lacks, and if it can no longer be read, the values are empty.
 *
 *  @param {Blob} file
 *  @returns {Promise<{ time: string, width: number | "", height: number | "" }>} */
export async function photoFacts(file) {
	try {
		const view = new DataView(await file.slice(0, HEAD).arrayBuffer());
		if (view.getUint32(0) === 0x89504e47) return { time: "", width: view.getUint32(16), height: view.getUint32(20) };
		if (view.getUint16(0) === 0xffd8) return jpegFacts(view);
	} catch (error) {
		// The file ends early, or was moved or deleted.
		if (!(error instanceof RangeError || error instanceof DOMException)) throw error;
	}
	return { time: "", width: "", height: "" };
}

/** @param {DataView} view */
function jpegFacts(view) {
	let time = "";
	let turned = false;
	for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
		const marker = view.getUint16(at);
		if (marker === 0xffe1 && view.getUint32(at + 4) === 0x45786966) {
			const tags = exifTags(new DataView(view.buffer, at + 10));
			const [date, clock] = `${tags.get(TAKEN) ?? tags.get(CHANGED) ?? ""}`.split(" ");
			if (clock) time = `${date.replaceAll(":", "-")}T${clock}`;
			turned = Number(tags.get(ORIENTATION)) >= 5;
		}
		// Start of frame: all of C0 to CF, except the tables C4, C8 and CC
		if (marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker)) {
			const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
			return turned ? { time, width: height, height: width } : { time, width, height };
		}
	}
}

/** Return the tags of a TIFF header that are used here, with a number or a text each. @param {DataView} view */
function exifTags(view) {
	const little = view.getUint16(0) === 0x4949;
	const tags = new Map();
	/** @param {number} start */
	const read = (start) => {
		for (let i = 0; i < view.getUint16(start, little); i += 1) {
			const at = start + 2 + 12 * i;
			const tag = view.getUint16(at, little);
			const value = view.getUint32(at + 8, little);
			if (tag === EXIF) read(value);
			if (tag === ORIENTATION) tags.set(tag, view.getUint16(at + 8, little));
			if (tag === TAKEN || tag === CHANGED) {
				const letters = new Uint8Array(view.buffer, view.byteOffset + value, view.getUint32(at + 4, little));
				tags.set(tag, new TextDecoder().decode(letters).replaceAll("\0", "").trim());
			}
		}
	};
	read(view.getUint32(4, little));
	return tags;
}
