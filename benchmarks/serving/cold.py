"""Part c: seconds to the first response of a model that is not in memory, and of another α of one that is."""

import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import httpx

from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi
from benchmarks.serving.throughput import class_names, counters

COLD, OTHER_ALPHA, NEW_CLASSES, WARM = (
    "first answer, model not in memory",
    "first answer at another α, model in memory",
    "model in memory, ten new class names",
    "model in memory, the same request again",
)
ALPHAS = (0.5, 0.3)
NAMES = 10


def measure(api: RunningApi, models: Sequence[str], image: bytes, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each kind of request, one request at a time.

    The API must have room for one network, so that each model is evicted before its next turn. All measured
    requests except the last have ten class names that the service has not seen.

    Raises:
        SystemExit: a model was not evicted, or loaded more than once.
    """
    taken: dict[str, list[float]] = defaultdict(list)
    names = class_names(1_000)
    fresh = itertools.count()

    def classify(model: str, alpha: float, number: int) -> tuple[float, dict[str, float]]:
        some = [names[(NAMES * number + i) % len(names)] for i in range(NAMES)]
        data = {"model": model, "alpha": str(alpha), "class_names": some}
        started = time.perf_counter()
        answer = http.post("/classify", data=data, files={"images": ("a.jpg", image)})
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        timing: dict[str, float] = answer.json()["timing_ms"]
        return seconds, timing

    with httpx.Client(base_url=api.url, timeout=120) as http:
        before = counters(str(http.base_url).rstrip("/"), "warm")["loads"]
        for _ in range(rounds):
            for model in models:
                taken[COLD].append(classify(model, ALPHAS[0], next(fresh))[0])
                taken[OTHER_ALPHA].append(classify(model, ALPHAS[1], next(fresh))[0])
                number = next(fresh)
                seconds, timing = classify(model, ALPHAS[1], number)
                taken[NEW_CLASSES].append(seconds)
                seconds, timing = classify(model, ALPHAS[1], number)
                taken[WARM].append(seconds)
                taken["of which decoding"].append(timing["decode"] / 1000)
                taken["of which the network"].append(timing["encode"] / 1000)
        loads = counters(str(http.base_url).rstrip("/"), "warm")["loads"] - before
    expected = len(ALPHAS) * len(models) * rounds
    if loads != expected:
        raise SystemExit(
            f"{loads} models were loaded, expected {expected}. The memory budget does not fit one model."
        )
    return dict(taken)


def table(taken: dict[str, list[float]], title: str, bytes_per_model: int) -> Table:
    result = Table(
        title,
        ["one image, ten classes, one at a time", "median, s", "minimum, s", "maximum, s", "requests"],
        note=f"The backbone is in memory. The models are stored in 4 bits, {bytes_per_model / 1e6:.0f} MB "
        "each, in files that may be in the page cache.",
    )
    for name, seconds in taken.items():
        result.rows.append(
            [
                name,
                f"{median(seconds):.3f}",
                f"{min(seconds):.3f}",
                f"{max(seconds):.3f}",
                str(len(seconds)),
            ]
        )
    return result
