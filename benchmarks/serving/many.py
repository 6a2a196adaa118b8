"""Part d: many models and little memory. Requests follow Zipf's law; models are deleted and promoted."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi
from benchmarks.serving.clients import Load, load, raw_request
from benchmarks.serving.zipf import lru_hits

NAME, ALIAS = "shop", "prod"
"""Name and alias of the models that are promoted in turn, all versions of one name."""
ALIAS_EVERY = 10
"""Interval of requests to the alias."""
ALIASED = -1
EQUAL = 1e-5
"""Tolerance of probabilities, between a response under load and one of the same model before."""


@dataclass
class Plan:
    """Plan of requests, deletions and promotions."""

    models: Sequence[str]
    """Model ids, the most popular first."""
    requests: Sequence[int]
    """Indices into `models`."""
    versions: Sequence[str]
    """Model ids between which the alias moves."""
    deleted: Sequence[int]
    """Indices of the models that are deleted during the run, in order."""
    clients: int


@dataclass
class Seen:
    load: Load
    rss_before: int
    rss_peak: int
    rss_after: int
    budget: int
    hits: int
    misses: int
    resident: int
    """Networks in memory at the end."""
    ideal_hits: int
    counted: int
    """Number of requests that `ideal_hits` covers."""
    gone: int
    """Responses 404 for a deleted model."""
    failures: Counter[str] = field(default_factory=Counter)
    """All other responses except 200, and incorrect ones."""
    aliased: Counter[str] = field(default_factory=Counter)
    """Responses of the alias by the model that they name."""
    promotions: int = 0
    deletions: int = 0


def measure(api: RunningApi, plan: Plan, image: bytes, names: Sequence[str], room: int) -> Seen:
    """Run the plan.

    Args:
        room: number of models that fit in the budget.
    """
    process = psutil.Process(api.pid)
    with httpx.Client(base_url=api.url, timeout=60) as http:
        form = {"class_names": json.dumps(names), "alpha": "0.5"}
        for _ in range(20):  # warm up, so that rss_before includes one-time allocations
            _probabilities(http, form | {"alpha": "0"}, image, "stock")
        rss_before = process.memory_info().rss
        expected = {model: _probabilities(http, form, image, model) for model in plan.versions}
        http.put(f"/models/{NAME}/aliases/{ALIAS}", json={"model": plan.versions[0]}).raise_for_status()
        before = http.get("/runtime").json()["models"]
        requests = _Requests(api, plan, form, image, expected)
        memory = _Memory(process)
        changes = _Changes(api.url, plan, requests)
        with memory, changes:
            result = load(api.url, iter(requests), clients=plan.clients, on_answer=requests.check)
        after = http.get("/runtime").json()["models"]
    counts = {name: after["models"][name] - before["models"][name] for name in ("hits", "misses")}
    return Seen(
        result,
        rss_before,
        memory.peak,
        process.memory_info().rss,
        after["budget_bytes"],
        counts["hits"],
        counts["misses"],
        after["models"]["values"],
        lru_hits(requests.sequence, room),
        len(requests.sequence),
        requests.gone,
        requests.failures,
        requests.aliased,
        changes.promotions,
        changes.deletions,
    )


def _probabilities(http: httpx.Client, form: dict[str, str], image: bytes, model: str) -> dict[str, float]:
    answer = http.post("/classify", data={**form, "model": model}, files={"images": ("a.jpg", image)})
    return _read(answer.raise_for_status().content)


def _read(body: bytes) -> dict[str, float]:
    predictions = json.loads(body)["results"][0]["predictions"]
    return {one["class_name"]: one["probability"] for one in predictions}


class _Requests:
    """Requests in order, and a check of the responses. Only `deleting` is set from another thread."""

    def __init__(
        self,
        api: RunningApi,
        plan: Plan,
        form: dict[str, str],
        image: bytes,
        expected: dict[str, dict[str, float]],
    ) -> None:
        self._api, self._plan, self._form, self._image = api, plan, form, image
        self._expected = expected
        self.deleting: set[int] = set()
        """Indices of models whose deletion was requested."""
        self.asked = 0
        self.sequence: list[int] = []
        """Requested models in order, with the alias as a model of its own."""
        self.gone = 0
        self.failures: Counter[str] = Counter()
        self.aliased: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for i in self._plan.requests:
            self.asked += 1
            if self.asked % ALIAS_EVERY == 0:
                self.sequence.append(ALIASED)
                yield ALIASED, self._made(f"{NAME}@{ALIAS}")
            if i not in self.deleting:
                self.sequence.append(i)
            yield i, self._made(self._plan.models[i])

    def _made(self, model: str) -> bytes:
        return raw_request(self._api.url, {**self._form, "model": model}, [self._image])

    def check(self, i: int, status: int, body: bytes) -> None:
        if status == 404 and i in self.deleting:
            self.gone += 1
        elif status != 200:
            self.failures[f"{status} {json.loads(body).get('code')}"] += 1
        elif i == ALIASED:
            model = json.loads(body)["model"]
            self.aliased[model] += 1
            expected, actual = self._expected[model], _read(body)
            if any(abs(actual[name] - expected[name]) > EQUAL for name in expected):
                self.failures["a response that names the wrong model"] += 1
        elif json.loads(body)["model"] != self._plan.models[i]:
            self.failures["a response of another model"] += 1


class _Memory:
    """Peak memory of a process, sampled ten times per second."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._stop = process, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.peak = max(self.peak, self._process.memory_info().rss)


class _Changes:
    """Deletions and promotions, spread over the requests."""

    def __init__(self, url: str, plan: Plan, requests: _Requests) -> None:
        self._url, self._plan, self._requests = url, plan, requests
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._change)
        self.promotions = self.deletions = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _change(self) -> None:
        every = max(1, len(self._plan.requests) // (len(self._plan.deleted) + 1))
        with httpx.Client(base_url=self._url, timeout=60) as http:
            for turn, i in enumerate(self._plan.deleted, start=1):
                while self._requests.asked < turn * every:
                    if self._stop.wait(0.02):
                        return
                version = self._plan.versions[turn % len(self._plan.versions)]
                moved = http.put(f"/models/{NAME}/aliases/{ALIAS}", json={"model": version})
                self.promotions += moved.is_success
                self._requests.deleting.add(i)
                self.deletions += http.delete(f"/models/{self._plan.models[i]}").is_success


def table(seen: Seen, plan: Plan, room: int) -> Table:
    summary = Table(f"{len(plan.models):,} models, memory for {room}", ["", "value"])
    hits = seen.hits / (seen.hits + seen.misses)
    ideal = seen.ideal_hits / seen.counted
    final, peak = seen.rss_after - seen.rss_before, seen.rss_peak - seen.rss_before
    rows = {
        "requests, clients": f"{len(plan.requests):,}, {plan.clients}",
        "requests per second": f"{sum(seen.load.statuses.values()) / seen.load.seconds:.1f}",
        "p50, ms": f"{1000 * seen.load.p50:.0f}",
        "hit rate": f"{hits:.1%}",
        f"hit rate of an ideal LRU cache of {room}": f"{ideal:.1%}",
        "models in memory at the end": str(seen.resident),
        "budget, MB": f"{seen.budget / 1e6:.0f}",
        "resident memory beyond the API with its backbone, MB: at the end": f"{final / 1e6:.0f}",
        "maximum": f"{peak / 1e6:.0f} ({peak / seen.budget:.2f} of the budget)",
        "models deleted, promotions": f"{seen.deletions}, {seen.promotions}",
        "404 for a deleted model": str(seen.gone),
        "errors": ", ".join(f"{n} x {what}" for what, n in seen.failures.items()) or "0",
        "responses of the alias, by the model that they name": ", ".join(map(str, seen.aliased.values())),
    }
    summary.rows += [[name, value] for name, value in rows.items()]
    return summary
