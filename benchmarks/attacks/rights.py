"""Attacks on what a request may touch: stored images, storage writes, and the rights of a decoder."""

import time
from pathlib import Path

import httpx
import psutil
from PIL import Image

from benchmarks.attacks.measure import MB, Limits, Row
from benchmarks.attacks.service import Target, kill
from tests.api import crafted as images

STORED_IMAGES = 20
TRAIN_SECONDS = 600
DECODER = "core.clip.data.decoder"


def rows(small: bool) -> list[Row]:
    requests = 100 if small else 1_000
    return [
        Row(
            "A13",
            f"20 extensions of a model of {STORED_IMAGES} images, each with a file that is no image",
            extend_badly,
            None,
            Limits(growth=100 * MB),
            statuses=frozenset({422}),
            repeats=False,
            seconds=TRAIN_SECONDS,
        ),
        Row(
            "A16",
            f"{requests:,} times GET /readyz",
            lambda target: probe(target, requests),
            None,
            Limits(growth=50 * MB),
            statuses=frozenset({200}),
            repeats=False,
            alone=True,
        ),
        Row(
            "A17",
            "the process that decodes images: its open files, processes, capabilities and environment",
            look_at_decoders,
            None,
            Limits(),
            repeats=False,
            alone=True,
        ),
    ]


def extend_badly(target: Target) -> None:
    """Train a model, then extend it with a bad image. Count the bytes that the service reads per request."""
    model = _trained(target)
    before = target.process.io_counters().read_chars
    for _ in range(20):
        files = [("images", ("a.jpg", b"no image"))]
        target.send("POST", f"/models/{model}/extend", files=files, data={"labels": ["hare"]})
    read = (target.process.io_counters().read_chars - before) / 20
    target.note = f"{read / 1e6:.1f} MB read per request"
    if read > MB:
        target.broken.append(f"{target.note} > 1 MB")


def _trained(target: Target) -> str:
    """Return a model that was trained by a worker of the same checkout."""
    processes = [
        target.tree.run(name, environment=target.environment, data=target.data)
        for name in ("worker", "dispatcher")
    ]
    try:
        noise = Image.effect_noise((700, 700), 90)
        files = [
            ("images", (f"{i}.png", images.encoded(noise.rotate(90 * i).resize((690 + i, 700)), "PNG")))
            for i in range(STORED_IMAGES)
        ]
        labels = [("fox", "badger")[i % 2] for i in range(STORED_IMAGES)]
        fields = {"labels": labels, "config": '{"epochs": 1, "evaluate": "none"}'}
        job = target.http.post("/adapt", files=files, data=fields).raise_for_status().json()
        until = time.monotonic() + TRAIN_SECONDS
        while job["status"] != "succeeded":
            if job["status"] in {"failed", "cancelled"} or time.monotonic() > until:
                raise SystemExit(f"The model could not be trained: {job}")
            time.sleep(0.2)
            job = target.http.get(f"/jobs/{job['id']}").raise_for_status().json()
    finally:
        for process in processes:
            kill(process)
    return str(job["model_id"])


def probe(target: Target, requests: int) -> None:
    """Ask for readiness without a key, and count the bytes that the service writes to disk.

    Every 15 seconds it makes a temporary file to see whether the disk can be written.
    """
    time.sleep(2)  # the results at the start are reused for a second
    before = target.process.io_counters().write_bytes
    with httpx.Client(base_url=target.url, trust_env=False, timeout=60) as http:
        for _ in range(requests):
            status = http.get("/readyz").status_code
            target.statuses[status] = target.statuses.get(status, 0) + 1
            time.sleep(0.02)
    written = target.process.io_counters().write_bytes - before
    target.note = f"{written:,} bytes written"
    if written > MAX_WRITTEN:
        target.broken.append(target.note)


MAX_WRITTEN = 64_000
"""Bytes of the folders that a few checks of the disk may change; one per request would be 4 MB."""
FILTERED = "2"
"""State of a process whose system calls are filtered, by which decoders can't start processes."""


def look_at_decoders(target: Target) -> None:
    """Classify an image, then read from /proc what the process that decoded it may do."""
    target.classify(images.jpeg())
    below = target.process.children(recursive=True)
    decoders = [child for child in below if DECODER in child.cmdline()]
    if not decoders:
        target.note = "the process with the keys and the database decodes"
        target.broken.append(target.note)
        return
    there = Path(f"/proc/{decoders[0].pid}")
    lines = (there / "limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:47].strip() for line in lines}
    status = dict(line.split(":\t", 1) for line in (there / "status").read_text().splitlines())
    found = {
        "open files": limits["Max open files"],
        "processes": "0" if status["Seccomp"].strip() == FILTERED else limits["Max processes"],
        "capabilities": str(int(status["CapEff"], 16)),
        "settings in the environment": str((there / "environ").read_text().count("CLIPCITE_")),
        "files of torch": str((there / "maps").read_text().count("torch")),
    }
    memory = psutil.Process(decoders[0].pid).memory_info().rss / 1e6
    target.note = ", ".join(f"{name} {value}" for name, value in found.items()) + f", {memory:.0f} MB"
    target.broken += [f"{name}: {value}" for name, value in found.items() if value != "0"]
