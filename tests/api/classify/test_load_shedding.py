"""Load shedding of POST /classify."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import httpx
import pytest
from torch import Tensor

from api.serving.pool.served_model import ServedModel
from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, listening
from tests.api.serving.adapted import moved, publish_model
from tests.service.running import wait_for


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


class Held(threading.Event):
    """Event that every computation waits for, and the number of waiting computations."""

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
    images = service.app.state.serving.images
    images.most = 4
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

        for i, model in enumerate((first, second)):
            asked.append(pool.submit(classify, service, model))
            wait_for(lambda held=i + 1: images.held == held)
        # One owner gets half of the limit for all its models, the others the rest.
        refused = classify(service, first)
        assert_problem(refused, 503, "busy", "Try again in 2 s")
        assert refused.headers["retry-after"] == "2"
        theirs = {"headers": {"Authorization": keys["other"]}}
        asked.append(pool.submit(classify, service, images=2, **theirs))
        wait_for(lambda: images.held == 4)
        for body in ({}, {"class_names": []}):  # The request is refused before the rest of it is read.
            assert_problem(classify(service, **body), 503, "busy")
        # Other routes keep answering.
        assert service.client.get("/models").status_code == 200
        assert service.client.get("/healthz").status_code == 200
        assert images.refused == 3
        held.set()
        assert [one.result(60).status_code for one in asked] == [200] * 3
    assert classify(service, first).status_code == 200
    assert images.held == 0


def test_one_large_request_is_admitted(make_service: MakeService) -> None:
    service = make_service()
    service.app.state.serving.images.most = 2
    assert len(classify(service, images=20).json()["results"]) == 20


def test_a_request_that_waits_too_long_gets_503(make_service: MakeService, held: Held) -> None:
    service = make_service()
    held.set()
    assert classify(service).status_code == 200
    held.clear()
    service.app.state.serving.engine.wait_seconds = 0.05
    batcher = service.app.state.serving.engine.batcher
    at_once = batcher.workers
    with ThreadPoolExecutor(at_once + 1) as pool:
        first = [pool.submit(classify, service) for _ in range(at_once)]
        wait_for(lambda: held.waiting >= at_once)
        late = pool.submit(classify, service)
        while not late.done():
            with batcher._changed:
                for item in chain.from_iterable(batcher._queues.values()):
                    item.passed_over = True  # as if other requests were computed meanwhile
            time.sleep(0.01)
        assert_problem(late.result(), 503, "busy", "Try again")
        held.set()
        assert all(one.result(60).status_code == 200 for one in first)


def test_the_unread_body_of_a_refused_request_does_no_harm(make_service: MakeService) -> None:
    """The request is refused unread. The next one succeeds, on the same connection or another."""
    service = make_service()
    service.app.state.serving.images.most = 2
    files = [("images", (f"{i}.jpg", crafted.jpeg(i, 900, 900))) for i in range(12)]
    with (
        listening(service.app) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client,
    ):
        data = {"class_names": ["fox", "oak"]}
        with service.app.state.serving.images.hold("default", 1):
            for _ in range(3):
                assert client.post("/classify", data=data, files=files).status_code == 503
                assert client.get("/healthz").status_code == 200
        assert client.post("/classify", data=data, files=files).status_code == 200
