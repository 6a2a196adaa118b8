"""Hugging Face's inference schema. tests/neighbours runs its own clients against a service."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import Mock

import pytest

from api.serving.pool.cache import StillLoading
from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import Service
from tests.api.serving.adapted import CLASSES, publish_model

JPEG = crafted.jpeg(1)
TEXT = base64.b64encode(JPEG).decode()
LABELS = {"candidate_labels": ["oak", "red fox"], "hypothesis_template": "a drawing of a {}"}


@pytest.fixture(scope="module")
def shared(
    new_service: Callable[..., AbstractContextManager[Service]], backbone: Backbone
) -> Iterator[Service]:
    with new_service(admin_key="a" * 32) as made:
        made.client.headers["Authorization"] = f"Bearer {'a' * 32}"
        model = publish_model(made.database, made.blobs, backbone, name="shoes")
        made.client.put("/models/shoes/aliases/prod", json={"model": model})
        yield made


def expected(service: Service, **options: Any) -> list[dict[str, Any]]:
    body = {"model": "shoes", "images": [{"base64": TEXT}], **options}
    predictions = service.client.post("/classify", json=body).json()["results"][0]["predictions"]
    return [{"label": p["class_name"], "score": p["probability"]} for p in predictions]


@pytest.mark.parametrize("inputs", [TEXT, {"image": TEXT}], ids=["Python", "JavaScript"])
def test_candidate_labels(shared: Service, inputs: Any) -> None:
    answer = shared.client.post("/hf/shoes@prod", json={"inputs": inputs, "parameters": LABELS}).json()
    assert answer == expected(
        shared, class_names=LABELS["candidate_labels"], templates=[LABELS["hypothesis_template"]]
    )
    assert {row["label"] for row in answer} == {"oak", "red fox"}
    assert answer[0]["score"] > answer[1]["score"]


def test_an_image_alone_is_classified_among_the_trained_classes(shared: Service) -> None:
    raw = shared.client.post("/hf/shoes@prod", content=JPEG).json()
    assert raw == expected(shared)
    assert {row["label"] for row in raw} == set(CLASSES)
    one = shared.client.post("/hf/shoes@1", json={"inputs": TEXT, "parameters": {"top_k": 1}}).json()
    assert one == raw[:1]


@pytest.mark.parametrize(
    ("model", "sent", "status", "kind"),
    [
        ("shoes", {"content": b"no image"}, 422, "bad_images"),
        ("shoes", {"json": {"inputs": TEXT, "parameters": {"candidate_labels": ["a"] * 1_001}}}, 422, None),
        ("shoes", {"json": {"inputs": "?"}}, 422, "invalid_request"),
        ("shoes", {"json": {"inputs": TEXT, "parameters": {"labels": []}}}, 422, "invalid_request"),
        ("shoes", {"json": {"inputs": TEXT, "parameters": {"candidate_labels": [" "]}}}, 422, None),
        ("stock", {"content": JPEG}, 422, "invalid_request"),
        ("stock:none", {"json": {"inputs": TEXT, "parameters": LABELS}}, 422, "unknown_backbone"),
        ("boots@prod", {"content": JPEG}, 404, "model_not_found"),
        ("shoes", {"content": JPEG, "headers": {"Authorization": "Bearer x"}}, 401, "unauthorized"),
    ],
)
def test_errors(shared: Service, model: str, sent: dict[str, Any], status: int, kind: str | None) -> None:
    response = shared.client.post(f"/hf/{model}", **sent)
    assert response.status_code == status
    body = response.json()
    assert set(body) == {"error", "error_type"}
    assert isinstance(body["error"], str)
    assert kind in {None, body["error_type"]}
    assert "class_names" not in body["error"]
    assert "See errors" not in body["error"]


def test_a_model_that_loads(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.app.state.serving, "hold", Mock(side_effect=StillLoading))
    response = shared.client.post("/hf/shoes", content=JPEG)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.json()["error"] == "The model is still being loaded. Try again in a few seconds."
