"""Part e: the price of decoder processes. Two services take turns, with and without them."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median

import psutil
from PIL import Image

from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi, running_api
from benchmarks.serving.clients import load
from benchmarks.serving.throughput import requests_of

CLIENTS = (1, 32)
PHOTO = (4_000, 3_000)
PHOTOS = 8
WITHIN = "import core.clip.data.decoders as d; d.HAS_PROCESSES = False; from api.__main__ import main; main()"
"""Code of a service that decodes in its own process."""
Measured = dict[tuple[str, int, bool], list[tuple[float, float, float]]]
"""Images per second, median response (ms) and CPU per image (ms).

The keys are kind of image, clients, and whether other processes decode.
"""


def measure(
    environment: Mapping[str, str],
    folders: Sequence[Path],
    files: Sequence[Path],
    rounds: int,
    seconds: float,
) -> Measured:
    """Load both services in turn, each on its own data folder, after a short round to warm up."""
    contents = [file.read_bytes() for file in files]
    kinds = {"the images of the data set": contents, "photos of 12 megapixels": photos(contents)}
    measured: Measured = defaultdict(list)
    within, apart = ({**environment, "CLIPCITE_DATA": str(folder)} for folder in folders)
    with running_api(within, code=WITHIN) as one, running_api(apart) as other:
        for number, (kind, clients) in itertools.product(
            range(rounds + 1), itertools.product(kinds, CLIENTS)
        ):
            services = [(False, one), (True, other)]
            for processes, api in services if number % 2 else services[::-1]:
                result = _once(api, kinds[kind], clients, seconds if number else 1)
                if number:
                    measured[kind, clients, processes].append(result)
    return measured


def photos(contents: Sequence[bytes]) -> list[bytes]:
    """Return JPEGs as large as those of a phone."""
    made = []
    for content in contents[:PHOTOS]:
        file = BytesIO()
        Image.open(BytesIO(content)).convert("RGB").resize(PHOTO).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def _once(
    api: RunningApi, images: Sequence[bytes], clients: int, seconds: float
) -> tuple[float, float, float]:
    before = _cpu(api.pid)
    result = load(api.url, requests_of(api, images, "stock", 10), clients=clients, seconds=seconds)
    answers = sum(result.statuses.values())
    if result.errors:
        raise SystemExit(f"The service answered {dict(result.statuses)}.")
    return result.rate, 1_000 * result.p50, 1_000 * (_cpu(api.pid) - before) / answers


def _cpu(pid: int) -> float:
    api = psutil.Process(pid)
    times = [process.cpu_times() for process in (api, *api.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def table(measured: Measured, title: str) -> Table:
    columns = ["", "images/s", "p50, ms", "CPU per image, ms"]
    note = "In the API → in decoder processes: medians of the rounds, and × the median of their ratios."
    made = Table(title, columns, note=note)
    for kind, clients in dict.fromkeys((kind, clients) for kind, clients, _ in measured):
        within, apart = measured[kind, clients, False], measured[kind, clients, True]
        cells = []
        for column in range(3):
            pairs = [(a[column], b[column]) for a, b in zip(within, apart, strict=True)]
            ratio = median(b / a for a, b in pairs)
            cells.append(
                f"{median(a for a, _ in pairs):.1f} → {median(b for _, b in pairs):.1f} (× {ratio:.2f})"
            )
        made.rows.append([f"{kind}, {clients} client{'s' if clients > 1 else ''}", *cells])
    return made
