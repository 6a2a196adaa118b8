"""GET /runtime, and load shedding."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from torch import Tensor

from core.clip.models.backbone import Backbone
from core.serving.pool.served_model import ServedModel
from core.serving.types import WeightsKey
from core.store.accounts import api_keys
from core.store.registry import models
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, listening
from tests.core.serving.adapted import moved, publish_model
from tests.core.store import samples


def classify(
    service: Service,
    model: str = "stock",
    images: int = 1,
    *,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    files = [("images", (f"{i}.jpg", crafted.jpeg(i))) for i in range(images)]
    data = {"class_names": ["fox", "oak"], "model": model, **fields}
    return service.client.post("/classify", data=data, files=files, headers=headers)


def runtime(service: Service) -> Any:
    response = service.client.get("/runtime")
    assert response.status_code == 200
    return response.json()


def test_models_in_memory(fresh: Service, backbone: Backbone) -> None:
    empty = runtime(fresh)
    assert (empty["backbones"], empty["models"]["resident"]) == ([], [])
    one, other = (publish_model(fresh.database, fresh.blobs, backbone, alpha=0.4) for _ in range(2))
    for model, alpha in ((one, 0.4), (one, 0.7), (other, 0.4), (one, 0)):
        assert classify(fresh, model, alpha=alpha).status_code == 200
    told = runtime(fresh)
    assert told["device"] | {"threads": 0} == {
        "name": "cpu",
        "precision": "fp32",
        "threads": 0,
        "decoders": told["device"]["decoders"],
    }
    assert told["backbones"] == [{"name": backbone.name, "image_size": 32, "users": 2}]
    warm = told["models"]
    assert warm["bytes"] == sum(resident["bytes"] for resident in warm["resident"])
    assert warm["bytes"] <= warm["budget_bytes"] == fresh.settings.model_cache_bytes
    shown = [(r["kind"], r["alpha"], r["models"], r["others"]) for r in warm["resident"]]
    both = sorted([one, other])
    # Least recently used first; each model counts as a use of its delta.
    assert shown == [("model", 0.7, both, 0), ("model", 0.4, both, 0), ("delta", None, both, 0)]
    assert all(r["users"] == 0 and not r["pinned"] for r in warm["resident"])
    counts = {name: warm["models"][name] for name in ("values", "hits", "misses", "loads", "evicted")}
    assert counts == {"values": 2, "hits": 1, "misses": 2, "loads": 2, "evicted": 0}
    prompts = told["prompts"]
    assert (prompts["rows"], prompts["classifiers"], prompts["encoded"]) == (6, 4, 6)
    assert (prompts["hits"], prompts["misses"]) == (1, 3)
    assert told["batches"]["images"] == 4
    assert told["batches"]["sizes"] == {"1": 4}
    assert told["batches"]["prompts"] == 6
    assert told["queue"]["images"] == told["queue"]["waiting_images"] == 0
    metrics = fresh.client.get("/metrics").text
    for line in ("warm_models 2.0", "warm_deltas 1.0", "warm_loads_total 2.0", "text_hits_total 1.0"):
        assert f"\nclipcite_{line}\n" in metrics
    assert "\nclipcite_queue_batched_images_total 4.0\n" in metrics
    assert fresh.client.delete(f"/models/{one}").status_code == 204
    assert {m for r in runtime(fresh)["models"]["resident"] for m in r["models"]} == {other}
    assert fresh.client.delete(f"/models/{other}").status_code == 204
    assert runtime(fresh)["models"]["bytes"] == 0
    assert runtime(fresh)["backbones"][0]["users"] == 0


def test_models_of_others_are_only_counted(fresh: Service, backbone: Backbone) -> None:
    samples.new_owner(fresh.database, "other")
    mine = publish_model(fresh.database, fresh.blobs, backbone)
    theirs = publish_model(fresh.database, fresh.blobs, backbone, owner="other")
    with fresh.database.read() as session:
        row = models.get(session, theirs, owner="other")
    with fresh.app.state.serving.engine.acquire(WeightsKey.of(row), 0.5, wait_seconds=10):
        assert classify(fresh, mine, alpha=0.5).status_code == 200
        for resident in runtime(fresh)["models"]["resident"]:
            assert (resident["models"], resident["others"]) == ([mine], 1)
    assert theirs not in fresh.client.get("/runtime").text


class Held(threading.Event):
    """Event for which every computation waits, and the number of those that do."""

    waiting = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Block every model's computation until the event is set."""
    go_on = Held()
    encode = ServedModel.encode_images

    def slow(network: ServedModel, pixels: Tensor) -> Tensor:
        if not go_on.is_set():
            go_on.waiting += 1
        assert go_on.wait(60)
        return encode(network, pixels)

    monkeypatch.setattr(ServedModel, "encode_images", slow)
    return go_on


def test_requests_over_the_limit_get_retry_after(
    make_service: MakeService, backbone: Backbone, held: Held
) -> None:
    service = make_service()
    service.app.state.admission.slots.most = 4
    first, second = (
        publish_model(service.database, service.blobs, backbone, theta_1=moved(backbone, seed))
        for seed in (1, 2)
    )
    keys = {}
    for owner in ("default", "other"):
        with service.database.write() as session:
            keys[owner] = f"Bearer {api_keys.create(session, owner=owner, scopes=['admin']).key}"
    service.client.headers["Authorization"] = keys["default"]
    with ThreadPoolExecutor(4) as pool:
        asked: list[Future[httpx.Response]] = []

        def wait_for(images: int) -> None:
            until = threading.Event()
            for _ in range(1_000):
                if runtime(service)["queue"]["images"] == images:
                    return
                until.wait(0.01)
            raise AssertionError(runtime(service)["queue"])

        for i, model in enumerate((first, second)):
            asked.append(pool.submit(classify, service, model))
            wait_for(i + 1)
        # One owner gets half of the limit for all its models, the others the rest.
        refused = classify(service, first)
        assert_problem(refused, 503, "busy", "Try again in 1 s")
        assert refused.headers["retry-after"] == "1"
        theirs = {"headers": {"Authorization": keys["other"]}}
        asked.append(pool.submit(classify, service, images=2, **theirs))
        wait_for(4)
        for body in ({}, {"class_names": []}):  # The request is refused before the rest of it is read.
            assert_problem(classify(service, **body), 503, "busy")
        # Other routes keep answering.
        assert service.client.get("/models").status_code == 200
        assert service.client.get("/healthz").status_code == 200
        assert runtime(service)["queue"]["refused"] == 3
        held.set()
        assert [one.result(60).status_code for one in asked] == [200] * 3
    assert classify(service, first).status_code == 200
    assert runtime(service)["queue"]["images"] == 0


def test_one_large_request_is_admitted(make_service: MakeService) -> None:
    service = make_service()
    service.app.state.admission.slots.most = 2
    assert len(classify(service, images=20).json()["results"]) == 20
    both = classify(service, images=3, model=[], models='["stock", "stock"]')
    assert len(both.json()["comparison"]) == 2


def test_a_request_that_waits_too_long_gets_503(make_service: MakeService, held: Held) -> None:
    service = make_service()
    held.set()
    assert classify(service).status_code == 200
    held.clear()
    service.app.state.serving.engine.wait_seconds = 0.05
    at_once = service.app.state.serving.engine.batcher.workers
    with ThreadPoolExecutor(at_once) as pool:
        first = [pool.submit(classify, service) for _ in range(at_once)]
        while held.waiting < at_once:
            time.sleep(0.01)
        late = classify(service)
        assert_problem(late, 503, "busy", "Try again")
        held.set()
        assert all(one.result(60).status_code == 200 for one in first)


def test_the_unread_body_of_a_refused_request_does_no_harm(make_service: MakeService) -> None:
    """The request is refused unread. The next one succeeds, on the same connection or another."""
    service = make_service()
    service.app.state.admission.slots.most = 1
    files = [("images", (f"{i}.jpg", crafted.jpeg(i, 900, 900))) for i in range(12)]
    with (
        listening(service.app) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        data = {"class_names": ["fox", "oak"]}
        with service.app.state.admission.admit("default", slots=1):
            for _ in range(3):
                assert client.post("/classify", data=data, files=files).status_code == 503
                assert client.get("/healthz").status_code == 200
        assert client.post("/classify", data=data, files=files).status_code == 200
