"""Attacks by small requests with a large cost: blanks, image sizes, crafted models, exports in a loop."""

import json
import struct
from collections import Counter
from functools import partial
from threading import Event, Thread

from benchmarks.attacks.archives import import_model, model_files
from benchmarks.attacks.measure import MB, Limits, Row
from benchmarks.attacks.service import Target, run_concurrently
from core.clip.weights.manifest import MANIFEST, WEIGHTS
from tests.api import crafted as images

IMAGE_SIZES = (1_024, 448)
IMPORTS = 5
long_row = partial(Row, repeats=False, seconds=300)


def rows(small: bool, times: int) -> list[Row]:
    blanks, values, zeros = (1 * MB, 100_000, 10 * MB) if small else (99 * MB, 3_300_000, 900 * MB)
    return [
        long_row(
            "D3",
            f"{times} × /classify, {blanks / 1e6:.0f} MB of base64 with blanks; honest: one without",
            lambda target: run_concurrently([partial(send_base64, target, b"AA ", blanks)] * times),
            lambda target: send_base64(target, b"AAA", blanks),
            Limits(growth=1_000 * MB, cpu=2 * times),
            statuses=frozenset({422, 503}),
        ),
        long_row(
            "D5",
            f"{4 * times} × /classify, 64 images, by a cancelled job of size 1,024 and 448",
            lambda target: classify_large(target, 4 * times),
            lambda target: target.classify(*[images.jpeg()] * 64),
            Limits(growth=1_000 * MB),
            statuses=frozenset({200, 422, 503}),
            starter=True,
            seconds=600,
        ),
        long_row(
            "D6-json",
            f"{3 * times} × POST /models, a manifest of {values:,} objects",
            lambda target: import_values(target, values, 3 * times),
            honest_import,
            Limits(growth=100 * MB),
            statuses=frozenset({413, 422, 503}),
        ),
        long_row(
            "D6-zeros",
            f"{times} × POST /models, one tensor of {zeros / 1e6:.0f} MB of zeros",
            lambda target: import_zeros(target, zeros, times),
            honest_import,
            Limits(growth=100 * MB),
            statuses=frozenset({422, 503}),
        ),
        long_row(
            "D8",
            f"2 clients export ONNX in a loop, while another owner imports {IMPORTS} models",
            exports_and_imports,
            None,
            Limits(growth=700 * MB, answer=None),
            statuses=frozenset({200, 201, 503}),
        ),
    ]


def send_base64(target: Target, unit: bytes, size: int) -> None:
    content = b'{"class_names":["a"],"images":[{"base64":"' + unit * (size // len(unit)) + b'"}]}'
    target.send("POST", "/classify", content=content, headers={"Content-Type": "application/json"})


def classify_large(target: Target, requests: int) -> None:
    """Classify by cancelled jobs with large image sizes. A job's id is a model, even before its end."""
    files = [("images", (f"{i}.jpg", images.jpeg(i, 32, 32))) for i in range(2)]
    many = [("images", (f"{i}.jpg", images.jpeg(i))) for i in range(64)]
    for side in IMAGE_SIZES:
        fields = {"labels": ["fox", "hare"], "config": json.dumps({"image_size": side})}
        job = target.http.post("/adapt", data=fields, files=files)
        if job.status_code == 202:
            target.http.post(f"/jobs/{job.json()['id']}/cancel").raise_for_status()
            asked = {"class_names": ["red", "green"], "model": job.json()["id"]}
            send = partial(target.send, "POST", "/classify", data=asked, files=many)
            run_concurrently([send] * requests)


def honest_import(target: Target) -> None:
    import_model(target, model_files(target.environment["CLIPCITE_BACKBONE"]))


def import_values(target: Target, values: int, clients: int) -> None:
    files = model_files(target.environment["CLIPCITE_BACKBONE"])
    more = b',"x":[' + b"{}," * values + b"{}]}"
    import_model(target, files | {MANIFEST: files[MANIFEST].rstrip()[:-1] + more}, clients)


def import_zeros(target: Target, size: int, clients: int) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    files = model_files(target.environment["CLIPCITE_BACKBONE"])
    weights = struct.pack("<Q", len(header)) + header + bytes(size)
    import_model(target, files | {WEIGHTS: weights}, clients)


def exports_and_imports(target: Target) -> None:
    """Export as the attacker until another owner has imported its models. Count the refusals of the other."""
    files = {"archive": ("a.zip", images.zip_of(model_files(target.environment["CLIPCITE_BACKBONE"])))}
    model = target.http.post("/models", files=files).raise_for_status().json()["id"]
    done = Event()

    def export() -> None:
        while not done.is_set():
            target.send("GET", f"/models/{model}/export?format=onnx")

    exporting = [Thread(target=export, daemon=True) for _ in range(2)]
    for thread in exporting:
        thread.start()
    headers = {"Authorization": f"Bearer {target.tree.keys[1]}"}
    try:
        other = [
            target.http.post("/models", files=files, headers=headers).status_code for _ in range(IMPORTS)
        ]
    finally:
        done.set()
        for thread in exporting:
            thread.join()
    target.note = "imports of the other owner: " + ", ".join(f"{s} × {n}" for s, n in Counter(other).items())
    if set(other) != {201}:
        target.broken.append(target.note)
