"""Part a: the service against the bare network, and the cost of each part of a request."""

import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import open_clip
import psutil
import torch
from torch import Tensor

from api.serving.pool.served_model import stock_model
from api.serving.threads import single_threaded
from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi
from benchmarks.serving.clients import Load, load, raw_request
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.inference.optimised import InferenceNetwork
from core.clip.models.backbone import Backbone
from core.clip.models.features import CPU_IMAGE_BATCH_SIZE, IMAGE_BATCH_SIZE

CLIENTS = (1, 8, 32)
NAMES = (10, 1000)
EAGER, PRODUCT = "eager fp32", "the product's"
EAGER_BATCH = 32
FROM_FILES = "the product's form with decoding only"
IMAGES = 64
SINGLES = 16
"""Images per round that are decoded and encoded one at a time."""


@dataclass
class Rounds:
    """Measurements by round: seconds per image of the bare forms, and loads on the service."""

    bare: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    single: list[float] = field(default_factory=list)
    """Seconds from a file in memory to the features, one image at a time, without other load."""
    decode: list[float] = field(default_factory=list)
    loads: dict[tuple[int, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    """Loads by number of clients and classes."""
    service_cpu: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """CPU seconds of the API per image."""
    network: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Mean number of batches in progress."""
    batch: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))


@torch.inference_mode()
def seconds_per_image(form: Callable[[Tensor], Tensor], pixels: Tensor, batch: int) -> float:
    """Return the seconds per image for pixels [N, 3, S, S], in batches of `batch`."""
    started = time.perf_counter()
    for some in pixels.split(batch):
        form(some)
    if pixels.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(pixels)


def class_names(count: int) -> list[str]:
    """Return `count` different class names, from ImageNet as far as they suffice."""
    return list(dict.fromkeys(open_clip.IMAGENET_CLASSNAMES))[:count] + [
        f"thing number {i}" for i in range(count - len(set(open_clip.IMAGENET_CLASSNAMES)))
    ]


def requests_of(
    api: RunningApi, images: Sequence[bytes], model: str, names: int
) -> Iterator[tuple[int, bytes]]:
    """Yield requests forever, with one image each and the five best classes in the response."""
    data = {"class_names": json.dumps(class_names(names)), "model": model, "top_k": "5"}
    made = [raw_request(api.url, data, [image]) for image in images]
    return itertools.cycle(enumerate(made))


def measure(
    api: RunningApi,
    backbone: Backbone,
    model: str,
    files: Sequence[Path],
    *,
    rounds: int,
    seconds: float,
    clients: Sequence[int] = CLIENTS,
    names: Sequence[int] = NAMES,
) -> Rounds:
    """Measure the bare network and the service in turn, after a short warm-up round."""
    at_once = CPU_IMAGE_BATCH_SIZE if backbone.device.type == "cpu" else IMAGE_BATCH_SIZE
    network = stock_model("", backbone).model
    eager: Callable[[Tensor], Tensor] = backbone.model.encode_image  # type: ignore[assignment]
    threads = single_threaded(torch.get_num_threads(), "bare")
    size = 2 * backbone.image_size
    opened = [open_image(file, shortest_side=size) for file in files]
    pixels = torch.stack([backbone.preprocess(image) for image in opened]).to(backbone.device)
    contents = [file.read_bytes() for file in files]
    decoded = torch.stack([_fitted(content, backbone) for content in contents])
    bare = {
        EAGER: lambda: seconds_per_image(eager, pixels, EAGER_BATCH),
        PRODUCT: lambda: _side_by_side(network, backbone, decoded.split(at_once), threads),
        FROM_FILES: lambda: _side_by_side(
            network, backbone, [contents[i : i + at_once] for i in range(0, len(contents), at_once)], threads
        ),
    }
    measured = Rounds()
    process = psutil.Process(api.pid)
    for number in range(rounds + 1):
        counted = measured if number else Rounds()
        counted_seconds = seconds if number else 0
        for name, once in bare.items():
            counted.bare[name].append(_repeated(once, counted_seconds))
        _singles(network, backbone, contents[:SINGLES], counted)
        for count, classes in itertools.product(clients, names):
            before, cpu = counters(api.url, "queue"), _cpu(process)
            result = load(
                api.url,
                requests_of(api, contents, model, classes),
                clients=count,
                seconds=seconds if number else 1,
            )
            after = counters(api.url, "queue")
            counted.loads[count, classes].append(result)
            images = after["batched_images"] - before["batched_images"]
            each = (_cpu(process) - cpu) / images if images else float("nan")  # a slow machine answered none
            counted.service_cpu[count, classes].append(each)
            counted.network[count, classes].append((after["busy_seconds"] - before["busy_seconds"]) / seconds)
            counted.batch[count, classes].append(images / max(1, after["batches"] - before["batches"]))
    return measured


def _repeated(once: Callable[[], float], seconds: float) -> float:
    """Return the median of as many runs as fit in `seconds`, at least one."""
    until = time.perf_counter() + seconds
    taken: list[float] = []
    while not taken or time.perf_counter() < until:
        taken.append(once())
    return median(taken)


def _side_by_side(
    network: InferenceNetwork,
    backbone: Backbone,
    batches: Sequence[Tensor | Sequence[bytes]],
    threads: Executor,
) -> float:
    """Return the seconds per image if each thread takes the next batch, of decoded images or of files.

    This is the upper bound of any service's throughput.
    """

    @torch.inference_mode()
    def encode(batch: Tensor | Sequence[bytes]) -> int:
        if not isinstance(batch, Tensor):
            batch = torch.stack([_fitted(content, backbone) for content in batch])
        return len(network.encode_fitted(batch.to(backbone.device)).cpu())

    started = time.perf_counter()
    images = sum(threads.map(encode, batches))
    return (time.perf_counter() - started) / images


@torch.inference_mode()
def _singles(
    network: InferenceNetwork, backbone: Backbone, contents: Sequence[bytes], measured: Rounds
) -> None:
    decoded, taken = [], []
    for content in contents:
        started = time.perf_counter()
        pixels = _fitted(content, backbone)[None]
        decoded.append(time.perf_counter() - started)
        network.encode_fitted(pixels.to(backbone.device)).cpu()
        taken.append(time.perf_counter() - started)
    measured.decode.append(median(decoded))
    measured.single.append(median(taken))


def _fitted(content: bytes, backbone: Backbone) -> Tensor:
    image = open_image(content, ImageLimits(), shortest_side=2 * backbone.image_size)
    return Pixels(backbone.preprocess).fit(image)


def counters(url: str, prefix: str) -> dict[str, float]:
    """Return the service's counters whose names begin with this prefix, without it."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return {k: float(v) for k, v in re.findall(rf"^clipcite_{prefix}_(\w+)_total (\S+)$", text, re.M)}


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _ratios(rate: float, bare: Mapping[str, float]) -> list[str]:
    return [f"{rate / bare[form]:.2f}" for form in (PRODUCT, FROM_FILES, EAGER)]


def tables(measured: Rounds, title: str) -> list[Table]:
    rate = {name: 1 / median(taken) for name, taken in measured.bare.items()}
    single = 1000 * median(measured.single)
    speed = Table(
        title,
        [
            "",
            "images/s",
            "of the bare network",
            "of it with decoding",
            "of eager fp32",
            "p50, ms",
            "errors",
        ],
        note=f"Medians of {len(measured.single)} rounds in which all take turns. The product's form runs "
        f"batches of {CPU_IMAGE_BATCH_SIZE} decoded images on a CPU, each on one core; eager fp32 "
        f"(open_clip's) runs batches of {EAGER_BATCH} on all cores. A request has one JPEG, and the response "
        "the five best classes. The clients are one process on the same cores. A single image, decoded and "
        f"encoded by the bare network, takes {single:.1f} ms.",
    )
    for name, value in rate.items():
        label = "the product's form" if name == PRODUCT else name
        label = f"bare network, {label}"
        speed.rows.append([label, f"{value:.1f}", *_ratios(value, rate), "", ""])
    between = Table(
        f"{title}: cost per image",
        [
            "",
            "wall, ms",
            "batches in progress",
            "images per batch",
            "API, CPU ms",
            "clients, CPU ms",
        ],
        note=f"{psutil.cpu_count()} cores. Decoding alone takes {1000 * median(measured.decode):.2f} ms.",
    )
    for (clients, names), loads in measured.loads.items():
        label = f"service, {clients} client{'s' if clients > 1 else ''}, {names:,} classes"
        served = median(one.rate for one in loads)
        p50 = 1000 * median(one.p50 for one in loads)
        speed.rows.append(
            [
                label,
                f"{served:.1f}",
                *_ratios(served, rate),
                f"{p50:.1f}" + (f" ({p50 / single:.2f} x alone)" if clients == 1 else ""),
                str(sum(one.errors for one in loads)),
            ]
        )
        key = (clients, names)
        cpu = median(one.client_cpu / max(1, sum(one.statuses.values())) for one in loads)
        between.rows.append(
            [
                label,
                f"{1000 / served:.2f}" if served else "–",
                f"{median(measured.network[key]):.1f}",
                f"{median(measured.batch[key]):.1f}",
                f"{1000 * median(measured.service_cpu[key]):.2f}",
                f"{1000 * cpu:.2f}",
            ]
        )
    return [speed, between]
