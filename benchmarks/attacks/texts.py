"""Attacks by text: JSON with many items, keys and levels, cached prompts, text parts of a form."""

import base64
import json
from collections.abc import Iterator
from functools import cache

from PIL import Image

from benchmarks.attacks import crafted
from benchmarks.attacks.measure import MB, Limits, Row
from benchmarks.attacks.service import Target
from tests.api import crafted as images

JSON = {"Content-Type": "application/json"}
REFUSALS = 12
BOUNDARY = "an-attack"


@cache
def rows(small: bool) -> list[Row]:
    wrong = b'{"class_names":["a"],"images":[' + b"0," * (9_999 if small else 999_999) + b"0]}"
    endless = _endless_images(100_000 if small else 7_000_000)
    keys = b'{"name":"a"' + b"".join(b',"%x":1' % i for i in range(2_000 if small else 200_000)) + b"}"
    nested = b"[" + b"[]," * (50_000 if small else 5_000_000) + b"[]]"
    return [
        Row(
            "A2",
            f"/classify, JSON with {_count(wrong, b'0,')} wrong items",
            lambda target: target.send("POST", "/classify", content=wrong, headers=JSON),
            honest_json,
            Limits(growth=4 * len(wrong) + 32 * MB, cpu=2),
        ),
        Row(
            "A2-keys",
            f"PATCH of a model with {_count(keys, b':1')} unknown keys",
            lambda target: target.send("PATCH", "/models/x", content=keys, headers=JSON),
            honest_patch,
            Limits(growth=4 * len(keys) + 32 * MB, cpu=2),
        ),
        Row(
            "A2b",
            f"/classify, JSON with {_count(endless, b'base64')} empty images",
            lambda target: target.send("POST", "/classify", content=endless, headers=JSON),
            honest_json,
            Limits(growth=len(endless) + 64 * MB),
        ),
        Row(
            "A3",
            f"PATCH of a model with {len(nested) / 1e6:.1f} MB of nested lists",
            lambda target: target.send("PATCH", "/models/x", content=nested, headers=JSON),
            honest_patch,
            Limits(growth=32 * MB, cpu=2),
            statuses=None if small else frozenset({413}),
        ),
        Row(
            "A4",
            f"/classify, {REFUSALS} refusals with {2 if small else 21} MB of prompts each",
            prompts,
            honest_prompts,
            Limits(growth=150 * MB),
            repeats=False,
            seconds=120,
        ),
        Row(
            "A5",
            f"dry run with {10 if small else 200} labels of 1 MB",
            text_parts,
            honest_labels,
            Limits(growth=20 * MB),
            statuses=frozenset({413}),
        ),
    ]


def _count(body: bytes, item: bytes) -> str:
    return f"{body.count(item):,}"


def _endless_images(count: int) -> bytes:
    return b'{"class_names":["a"],"images":[' + b'{"base64":""},' * (count - 1) + b'{"base64":""}]}'


@cache
def _honest_body(count: int) -> bytes:
    """Return JSON for /classify with `count` images of 70 kB."""
    noise = images.encoded(Image.effect_noise((250, 250), 90), "PNG")
    listed = [{"base64": base64.b64encode(noise).decode()}] * count
    return json.dumps({"class_names": ["a"], "images": listed}).encode()


def honest_json(target: Target) -> None:
    """Send about 2 MB with 20 images."""
    content = _honest_body(2 if target.small else 20)
    target.send("POST", "/classify", content=content, headers=JSON)


def honest_patch(target: Target) -> None:
    """Send 60 kB, mostly blanks, for a model that does not exist."""
    target.send("PATCH", "/models/x", content=b'{"name":"a"' + b" " * 60_000 + b"}", headers=JSON)


def honest_labels(target: Target) -> None:
    target.dry_run(*(images.jpeg(i) for i in range(10)))


def prompts(target: Target) -> None:
    """Send lists that are refused, each with other prompts. The second half may keep no more memory."""
    resident = []
    for number in range(REFUSALS):
        _refused(target, number + 1)
        resident.append(target.process.memory_info().rss)
    kept = (resident[-1] - resident[REFUSALS // 2]) // MB
    target.note = f"the second half keeps {kept} MB"
    target.broken += [target.note] * (kept > 10)


def honest_prompts(target: Target) -> None:
    """Send the same such list each time, as the cost of its size alone."""
    _refused(target, 0)


def _refused(target: Target, number: int) -> None:
    content = crafted.own_prompts(number, 21 if target.small else 210)
    target.send("POST", "/classify", content=content, headers=JSON)


def text_parts(target: Target) -> None:
    """Send `labels` of 1 MB each."""

    def body() -> Iterator[bytes]:
        for _ in range(10 if target.small else 200):
            yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="labels"\r\n\r\n'.encode()
            yield b"x" * 999_000 + b"\r\n"
        yield f"--{BOUNDARY}--\r\n".encode()

    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    target.send("POST", "/adapt?dry_run=true", content=body(), headers=headers)
