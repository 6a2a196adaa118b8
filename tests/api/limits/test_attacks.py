"""The attacks that were found, against one real service, where no faster test has the same limit.

Another owner classifies an image and lists models all the while, and must be answered.
"""

import io
import json
import multiprocessing
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.api.limits.measured import MB, Measured, measured
from tests.api.serving.adapted import publish_model

pytestmark = pytest.mark.slow
LONGEST_WAIT = 100
"""Longest request of the other owner, as a multiple of the longest of QUIET requests before the attack. The
attacks that were found made it wait 8 to 77 s, hundreds of times as long."""
QUIET = 4
"""Number of the other owner's requests before the attack."""
LARGE = 6_320
"""Side of an image just below the default limit of 40 million pixels."""
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Api:
    measured: Measured
    keys: tuple[str, str]
    """Keys of the attacker and of the other owner."""
    model: str
    """A model of the attacker."""
    answers: "Counter[int]" = field(default_factory=Counter)
    """Number of the attacker's answers by status."""

    def __post_init__(self) -> None:
        # One connection per request: a refusal closes its connection, which other threads may hold.
        headers = {**_key(self.keys[0]), "Connection": "close"}
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(base_url=self.measured.url, timeout=600, limits=limits, headers=headers)

    def send(self, method: str, path: str, **content: Any) -> None:
        """Send a request of the attacker. The service may close the connection during the upload."""
        with suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            self.answers[self.http.request(method, path, **content).status_code] += 1

    def classify(self, json_body: bytes) -> None:
        self.send("POST", "/classify", content=json_body, headers={"Content-Type": "application/json"})

    def dry_run(self, *images: bytes) -> None:
        fields = {"labels": [("fox", "hare")[i % 2] for i in range(len(images))]}
        files = [("images", (f"{i}", image)) for i, image in enumerate(images)]
        self.send("POST", "/adapt?dry_run=true", data=fields, files=files)


def _key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, migrated: Path, backbone: Backbone) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("attacked")
    (data / "clipcite.db").write_bytes(migrated.read_bytes())
    database = Database(f"sqlite:///{data}/clipcite.db")
    with database.write() as session:
        owners = ("attacker", "other")
        made = [api_keys.create(session, owner=o, scopes=["classify", "adapt"]).key for o in owners]
    blobs = Blobs((data / "blobs").as_uri())
    model = publish_model(database, blobs, backbone, owner="attacker", delta_format="4bit")
    database.close()
    with measured(data, backbone) as service:
        yield Api(service, (made[0], made[1]), model)


@contextmanager
def another_owner(api: Api) -> Iterator[list[tuple[int, float]]]:
    """Let the other owner send small requests, the first QUIET before the context.

    The list has their statuses and seconds after the context.
    """
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=ask_until_told, args=(api.measured.url, api.keys[1], there), daemon=True)
    process.start()
    there.close()  # so that `recv` raises EOFError if the process ends early
    asked: list[tuple[int, float]] = []
    try:
        here.recv()
        yield asked
        here.send("stop")
        asked.extend(here.recv())
    finally:
        process.kill()
        process.join()


def ask_until_told(url: str, key: str, told: Connection) -> None:
    asked: list[tuple[int, float]] = []
    with httpx.Client(base_url=url, headers=_key(key), timeout=600) as http:
        while not told.poll(0.1) or len(asked) < QUIET + 2:  # two at least, after a short attack
            began = time.monotonic()
            if len(asked) % 2:
                answer = http.get("/models")
            else:
                image = {"images": ("a.jpg", crafted.jpeg())}
                answer = http.post("/classify", data={"class_names": ["red", "green"]}, files=image)
            asked.append((answer.status_code, time.monotonic() - began))
            if len(asked) == QUIET:
                told.send("warm")
    told.send(asked)


def together(sends: Sequence[Callable[[], object]]) -> None:
    """Send all at the same time, and raise the first error."""
    with ThreadPoolExecutor(len(sends)) as pool:
        for sent in [pool.submit(send) for send in sends]:
            sent.result()


def files_of_one_kind(make: Callable[[int], bytes]) -> Callable[[Api], None]:
    return lambda api: together([partial(api.dry_run, *[make(LARGE)] * 4)] * 10)


def prompts(api: Api) -> None:
    """Send 7 lists of prompts, of 20 MB each, which take four times as much in memory.

    They are refused for want of an image: as many prompts are allowed, so they are read.
    """
    for number in range(7):
        texts = [f"\U0001f600{number}-{{}}-{j}".ljust(990, "x") for j in range(100)]
        names = [
            {"name": f"n{number}-{i}", "prompts": [text.replace("{}", str(i)) for text in texts]}
            for i in range(199)
        ]
        body = {"class_names": names, "images": [{"base64": ""}]}
        api.classify(json.dumps(body, ensure_ascii=False).encode())


def base64_of(unit: bytes) -> Callable[[Api], None]:
    content = b'{"class_names":["a"],"images":[{"base64":"%s"}]}'
    return lambda api: api.classify(content % (unit * (99 * MB // 3)))


def places(api: Api) -> None:
    """Classify 64 images with 16 clients for 10 s, by four names, so that a limit per model is not enough."""
    files = [("images", (f"{i}.jpg", crafted.jpeg(i))) for i in range(64)]
    until = time.monotonic() + 10

    def send(model: str) -> None:
        fields = {"class_names": ["red", "green"], "model": model}
        while time.monotonic() < until:
            api.send("POST", "/classify", data=fields, files=files)

    together([partial(send, model) for model in ("stock", "none-1", "none-2", "none-3")] * 4)


def exported(api: Api) -> dict[str, bytes]:
    content = api.http.get(f"/models/{api.model}/export?format=delta").raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def exports(api: Api) -> None:
    """Export ONNX with two clients until the other owner has imported 2 models."""
    archive = {"archive": ("a.zip", crafted.zip_of(exported(api)))}
    with ThreadPoolExecutor(1) as pool:
        other = {**_key(api.keys[1]), "Connection": "close"}
        imports = pool.submit(
            lambda: [api.http.post("/models", files=archive, headers=other).status_code for _ in range(2)]
        )

        def export() -> None:
            while not imports.done():
                api.send("GET", f"/models/{api.model}/export?format=onnx")

        together([export] * 2)
        assert imports.result() == [201] * 2


@dataclass(frozen=True)
class Attack:
    """An attack with its limits."""

    send: Callable[[Api], object]
    statuses: set[int]
    """Statuses that the attacker may get."""
    memory: int = 100 * MB
    """Largest growth of the service's memory (bytes)."""
    honest: Callable[[Api], object] | None = None
    """An honest request of the same size."""
    cpu: float = 0
    """Largest CPU time, as a multiple of the honest request's: about twice what was measured."""


def image(
    make: Callable[[], bytes],
    kind: str,
    *,
    cpu: float,
    memory: int = 800 * MB,
    statuses: set[int] | None = None,
) -> Attack:
    """Return a dry run of two files, compared with two honest files of 40 million pixels."""
    honest = partial(crafted.honest, kind, LARGE)
    return Attack(
        lambda api: api.dry_run(*[make()] * 2),
        statuses or {200},
        memory,
        lambda api: api.dry_run(*[honest()] * 2),
        cpu,
    )


ATTACKS = {
    "JPEGs of 806 scans": image(partial(crafted.jpeg_of_scans, 806), "JPEG", cpu=0.5, statuses={422}),
    "the worst TIFFs": image(partial(crafted.tiff_of_jpegs, 96, LARGE), "TIFF", cpu=12),
    "the worst WebPs": image(partial(crafted.flat_webp, LARGE), "WebP", cpu=3),
    "40 WebPs of 46 bytes": Attack(files_of_one_kind(crafted.flat_webp), {200, 503}, 880 * MB),
    "140 MB of refused prompts": Attack(prompts, {422}, 400 * MB),
    "base64 of blanks": Attack(base64_of(b"AA "), {422}, 1_000 * MB, base64_of(b"AAA"), 2),
    "all places for images": Attack(places, {200, 404, 503}),
    "exports in a loop": Attack(exports, {200, 503}, 700 * MB),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_others_are_answered(api: Api, name: str) -> None:
    attack = ATTACKS[name]
    with another_owner(api) as asked:
        honest = 0.0
        if attack.honest is not None:
            attack.honest(api)  # warm up
            honest = median(api.measured.cost(partial(attack.honest, api))[2] for _ in range(3))
        api.answers.clear()
        _, growth, cpu = api.measured.cost(partial(attack.send, api))
    quiet, longest = (max(seconds for _, seconds in part) for part in (asked[:QUIET], asked[QUIET:]))
    assert set(api.answers) <= attack.statuses
    assert growth <= attack.memory
    assert attack.honest is None or cpu <= attack.cpu * honest
    assert {status for status, _ in asked} == {200}
    assert longest <= LONGEST_WAIT * quiet
