"""/models: list, look at and delete adapted models."""

from datetime import datetime

import pytest

from core.clip.backbone import Backbone
from tests.api.service import MODEL_KEYS, Service, assert_problem
from tests.inputs import crafted
from tests.serving.adapted import publish_model

METRICS = {
    "measured_on": {"source": "test", "images": 40, "trained_images": 80},
    "trained_names": {
        "stock": 0.70,
        "adapted": 0.92,
        "difference": {"value": 0.22, "low": 0.11, "high": 0.33},
    },
    "new_names": None,
    "all_names": {"trained": {"stock": 0.6, "adapted": 0.9}, "new": None},
    "verdict": "better",
}


def published(service: Service, backbone: Backbone, **given: object) -> str:
    return publish_model(service.database, service.blobs, backbone, **given)  # type: ignore[arg-type]


def test_the_whole_model(either: Service, backbone: Backbone) -> None:
    texts = {"red fox": ["a fox", "ein Fuchs 🦊"]}
    templates = ["a drawing of a {}."]
    model_id = published(
        either, backbone, name="foxes", metrics=METRICS, alpha=0.3, templates=templates, texts=texts
    )
    model = either.client.get(f"/models/{model_id}").json()
    assert set(model) == MODEL_KEYS
    assert datetime.fromisoformat(model.pop("created_at")).tzinfo is not None
    job = either.client.get(f"/jobs/{model['job_id']}").json()
    assert (job["status"], job["model_id"]) == ("succeeded", model_id)
    assert job["metrics"] == METRICS
    size = next(b.bytes for b in either.blobs.list(f"models/{model_id}") if b.key.endswith(".safetensors"))
    assert model == {
        "id": model_id,
        "object": "model",
        "name": "foxes",
        "job_id": job["id"],
        "backbone": backbone.name,
        "trained_classes": ["red fox", "Badger"],
        "alpha": 0.3,
        "templates": templates,
        "texts": texts,
        "bytes": size,
        "weights": "full",
        "metrics": METRICS,
    }


def test_lists(either: Service, backbone: Backbone) -> None:
    assert either.client.get("/models").json() == {"data": [], "has_more": False, "next_cursor": None}
    made = [published(either, backbone) for _ in range(3)][::-1]
    first = either.client.get("/models", params={"limit": 2}).json()
    assert [model["id"] for model in first["data"]] == made[:2]
    assert all(set(model) == MODEL_KEYS for model in first["data"])
    assert (first["has_more"], first["next_cursor"]) == (True, made[1])
    second = either.client.get("/models", params={"limit": 2, "after": made[1]}).json()
    assert [model["id"] for model in second["data"]] == made[2:]
    assert (second["has_more"], second["next_cursor"]) == (False, None)
    assert second["data"][0] == either.client.get(f"/models/{made[2]}").json()


def test_an_unknown_cursor(fresh: Service) -> None:
    assert_problem(fresh.client.get("/models?after=mdl_none"), 422, "invalid_cursor", "Start again without")


@pytest.mark.parametrize("model_id", ["mdl_none", "stock", "x" * 2_000, "%F0%9F%A6%8A"])
def test_an_unknown_model(fresh: Service, model_id: str) -> None:
    for response in (fresh.client.get(f"/models/{model_id}"), fresh.client.delete(f"/models/{model_id}")):
        assert_problem(response, 404, "model_not_found", "GET /models lists")


@pytest.mark.parametrize("warm", [False, True])
def test_delete(either: Service, backbone: Backbone, warm: bool) -> None:
    model_id, other = published(either, backbone), published(either, backbone)
    body = {"images": [("images", ("a.jpg", crafted.jpeg()))]}

    def ask(model: str) -> int:
        data = {"class_names": ["red fox", "badger"], "model": model}
        return either.client.post("/classify", data=data, files=body["images"]).status_code

    if warm:
        assert ask(model_id) == 200
    response = either.client.delete(f"/models/{model_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert either.blobs.list(f"models/{model_id}") == []
    assert not any(model_id in str(path) for path in either.settings.data.rglob("*"))
    assert ask(model_id) == 404
    assert all(key[0] != model_id for key in either.app.state.serving._warm._warm)
    for again in (either.client.get(f"/models/{model_id}"), either.client.delete(f"/models/{model_id}")):
        assert_problem(again, 404, "model_not_found")
    assert ask(other) == 200
    assert [model["id"] for model in either.client.get("/models").json()["data"]] == [other]
    # Its job stays, and says what became of it.
    statuses = [job["status"] for job in either.client.get("/jobs").json()["data"]]
    assert statuses == ["succeeded", "succeeded"]
