"""Part untrained: images that also pass through the pre-trained network, and milliseconds per image."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.running_api import RunningApi
from benchmarks.serving.throughput import class_names, counters

IMAGES = 16
"""Number of images of a request."""
REQUESTS = 4
NAMES = 1_000


@dataclass
class Taken:
    """Measurements of one kind of request."""

    images: int = 0
    passes: float = 0
    """Images that the networks computed for them."""
    ms: list[float] = field(default_factory=list)
    """Milliseconds per image, by request."""
    adapted_ms: list[float] = field(default_factory=list)
    """The same with `new_class_balance` 0: the adapted network alone."""


def requests_of(
    data: DataSet, other: DataSet, base: Sequence[int]
) -> dict[str, tuple[list[str], list[Path]]]:
    """Return class names and images of each kind of request to a model of the `base` classes of a set."""
    new = [label for label in range(len(data.class_names)) if label not in base]

    def of(labels: Sequence[int]) -> tuple[list[str], list[Path]]:
        images = [e.path for e in data.test if e.label in labels]
        return [data.class_names[i] for i in labels], images[:: max(1, len(images) // (IMAGES * REQUESTS))]

    unrelated = [e.path for e in other.test][:: max(1, len(other.test) // (IMAGES * REQUESTS))]
    return {
        "closed": of(base),
        "mixed": of([*base, *new]),
        "untrained, the set's other classes": of(new),
        "untrained, another set": (list(other.class_names), unrelated),
        f"untrained, another set, {NAMES:,} names": (class_names(NAMES), unrelated),
    }


def measure(
    api: RunningApi, model: str, requests: Mapping[str, tuple[list[str], list[Path]]], rounds: int
) -> dict[str, Taken]:
    """Send all requests in turn, with and without the pre-trained network. The first round warms up."""
    taken: dict[str, Taken] = defaultdict(Taken)
    with httpx.Client(base_url=api.url, timeout=300) as http:
        for number in range(rounds + 1):
            for kind, (names, paths) in requests.items():
                found = taken[kind]
                for start in range(0, IMAGES * REQUESTS, IMAGES):
                    files = [("images", (p.name, p.read_bytes())) for p in paths[start : start + IMAGES]]
                    for given, ms in (({}, found.ms), ({"new_class_balance": "0"}, found.adapted_ms)):
                        before = counters(api.url, "queue")["batched_images"]
                        fields = {"model": model, "class_names": names, "top_k": "5", **given}
                        started = time.perf_counter()
                        http.post("/classify", data=fields, files=files).raise_for_status()
                        seconds = time.perf_counter() - started
                        if number:
                            ms.append(1000 * seconds / len(files))
                        if number and not given:
                            found.images += len(files)
                            found.passes += counters(api.url, "queue")["batched_images"] - before
    return dict(taken)


def table(taken: Mapping[str, Taken], title: str) -> Table:
    result = Table(
        title,
        ["request", "images that pass twice", "ms per image", "adapted network alone, ms", "requests"],
        note=f"{IMAGES} images per request, one request at a time, medians. The adapted network alone: "
        "`new_class_balance` 0, in turn.",
    )
    for kind, found in taken.items():
        share = found.passes / found.images - 1
        times = [f"{median(ms):.1f}" for ms in (found.ms, found.adapted_ms)]
        result.rows.append([kind, f"{share:.1%}", *times, str(len(found.ms))])
    return result
