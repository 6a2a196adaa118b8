"""A model deleted while a request loads it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import Service, assert_problem
from tests.core.serving.adapted import publish_model

IMAGE = ("images", ("a.jpg", crafted.jpeg()))


def classify(service: Service, model: str) -> Any:
    return service.client.post(
        "/classify", data={"class_names": ["fox", "oak"], "model": model}, files=[IMAGE]
    )


def test_a_model_deleted_while_it_is_loaded(
    fresh: Service, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose weights disappear before they are loaded returns 404 and is not reported as damaged."""
    model = publish_model(fresh.database, fresh.blobs, backbone)
    loading, gone = threading.Event(), threading.Event()
    get = fresh.blobs.get

    def late(key: str) -> bytes:
        loading.set()
        assert gone.wait(60)
        return get(key)

    monkeypatch.setattr(fresh.blobs, "get", late)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(classify, fresh, model)
        assert loading.wait(60)
        assert fresh.client.delete(f"/models/{model}").status_code == 204
        gone.set()
        assert_problem(asked.result(), 404, "model_not_found")
