"""Archives and bodies that cost a service far more than they cost their sender."""

import gzip
import json
import tarfile
from collections.abc import Mapping
from functools import cache

from tests.api.crafted import zip_of


def sparse_tar(numbers: int) -> bytes:
    """Return a tar of one sparse file, whose map has this many numbers."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    pax |= {"GNU.sparse.name": "cat/a.jpg", "GNU.sparse.realsize": "10"}
    return _packed(_entry(b"x", _pax(pax)), _entry(b"0", b"%d\n" % (numbers // 2) + b"0\n" * numbers))


def global_headers_tar(count: int, files: int = 300) -> bytes:
    """Return a tar with global headers of 65 kB of distinct empty keys, then files with their own headers."""
    heads = (_entry(b"g", _pax({f"{i:x}.{j:x}": "" for j in range(5_000)})) for i in range(count))
    tail = (_entry(b"x", _pax({"comment": ""})) + _entry(b"0", b"") for _ in range(files))
    return _packed(*heads, *tail)


def header_chain_tar(kind: bytes, count: int = 400) -> bytes:
    """Return a tar with a chain of `count` headers, `x` or `L`, for one file."""
    body = _pax({"comment": ""}) if kind == b"x" else b"cat/a.jpg\0"
    return _packed(*[_entry(kind, body)] * count, _entry(b"0", b""))


def _pax(records: Mapping[str, str]) -> bytes:
    out = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        out += f"{length} {key}={value}\n".encode()
    return out


def _entry(kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("cat/a.jpg")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


def _packed(*entries: bytes) -> bytes:
    return gzip.compress(b"".join(entries) + bytes(1024), mtime=0)


@cache
def zeros_zip(files: int, size: int) -> bytes:
    return zip_of({f"{'cat' if i % 2 else 'dog'}/{i}.jpg": bytes(size) for i in range(files)})


def own_prompts(number: int, names: int) -> bytes:
    """Return JSON for /classify with a hundred prompts per class, each of 4 kB in memory."""
    texts = [f"\U0001f600{number}-{{}}-{j}".ljust(990, "x") for j in range(100)]
    listed = [
        {"name": f"n{number}-{i}", "prompts": [text.replace("{}", str(i)) for text in texts]}
        for i in range(names)
    ]
    body = {"class_names": listed, "images": [{"base64": ""}]}
    return json.dumps(body, ensure_ascii=False).encode()
