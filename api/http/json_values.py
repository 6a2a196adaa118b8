"""Counting of JSON values before parsing, because a parsed value takes many times its encoded size."""

MAX_JSON_VALUES = 100_000


class JsonValues:
    """Counter of strings, objects, arrays and commas in a stream of JSON.

    The content of strings does not count, nor does anything in a body that begins like no object, array or
    string, such as an image. The cost is a few searches per chunk.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_string = False
        self._escape = b""
        self._is_json: bool | None = None
        """None until the first byte that is no white space."""

    def add(self, chunk: bytes) -> int:
        """Count the next chunk, which may be cut anywhere. Return the count so far."""
        if self._is_json is None and (start := chunk.lstrip(b" \t\r\n")):
            self._is_json = start[:1] in b'{["'
        if not self._is_json:
            return 0
        chunk = self._escape + chunk
        self._escape = b""
        if b"\\" in chunk:
            if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
                chunk, self._escape = chunk[:-1], b"\\"
            # Pairs first, because in \\" the quotation mark ends the string.
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self.count += (len(parts) - self._in_string) // 2 + sum(map(outside.count, (b",", b"[", b"{")))
        self._in_string ^= len(parts) % 2 == 0
        return self.count
