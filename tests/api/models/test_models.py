"""/models: list, show, rename and delete adapted models."""

from datetime import datetime
from typing import Any

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import MODEL_KEYS, Service, assert_problem
from tests.api.serving.adapted import publish_model

METRICS = {
    "measured_on": {"source": "test", "images": 40, "trained_images": 80, "fold_models": 0},
    "trained_classes": {
        "stock": 0.70,
        "adapted": 0.92,
        "interval": [0.8, 0.97],
        "difference": {"value": 0.22, "low": 0.11, "high": 0.33},
    },
    "new_classes": None,
    "all_classes": {
        "trained": {"stock": 0.6, "adapted": 0.9, "interval": None, "difference": None},
        "new": None,
        "all": None,
    },
    "verdict": "better",
}
SENTENCES = [
    "Better.",
    "92% correct (likely 80 to 97) on your 40 test images, up from 70% (+22 points, 95% CI +11 to +33).",
]


def published(service: Service, backbone: Backbone, **given: object) -> str:
    return publish_model(service.database, service.blobs, backbone, **given)  # type: ignore[arg-type]


def test_the_whole_model(either: Service, backbone: Backbone) -> None:
    prompts = {"red fox": ["a fox", "ein Fuchs 🦊"]}
    templates = ["a drawing of a {}."]
    model_id = published(
        either, backbone, name="foxes", metrics=METRICS, alpha=0.3, templates=templates, prompts=prompts
    )
    model = either.client.get(f"/models/{model_id}").json()
    assert set(model) == MODEL_KEYS
    assert datetime.fromisoformat(model.pop("created_at")).tzinfo is not None
    assert model.pop("created_by").startswith("local:")  # of this process, which is no request
    job = either.client.get(f"/jobs/{model['job_id']}").json()
    assert (job["status"], job["model_id"]) == ("succeeded", model_id)
    shown = {**METRICS, "sentences": SENTENCES}
    assert job["metrics"] == shown
    size = next(b.bytes for b in either.blobs.list(f"models/{model_id}") if b.key.endswith(".safetensors"))
    assert model == {
        "id": model_id,
        "object": "model",
        "name": "foxes",
        "version": 1,
        "aliases": [],
        "job_id": job["id"],
        "backbone": backbone.name,
        "trained_classes": ["red fox", "Badger"],
        "alpha": 0.3,
        "templates": templates,
        "prompts": prompts,
        "bytes": size,
        "delta_format": "full",
        "metrics": shown,
        "evaluated": False,
        "promoted": True,
        "not_promoted": None,
    }


def test_delete(either: Service, backbone: Backbone) -> None:
    model_id, other = published(either, backbone), published(either, backbone)
    body = {"images": [("images", ("a.jpg", crafted.jpeg()))]}

    def get_classification(model: str) -> int:
        data = {"class_names": ["red fox", "badger"], "model": model}
        return either.client.post("/classify", data=data, files=body["images"]).status_code

    assert get_classification(model_id) == 200
    response = either.client.delete(f"/models/{model_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert either.blobs.list(f"models/{model_id}") == []
    assert not any(model_id in str(path) for path in either.settings.data.rglob("*"))
    assert get_classification(model_id) == 404
    for again in (either.client.get(f"/models/{model_id}"), either.client.delete(f"/models/{model_id}")):
        assert_problem(again, 404, "model_not_found")
    assert get_classification(other) == 200
    assert [model["id"] for model in either.client.get("/models").json()["data"]] == [other]
    # Its job stays and reports that the model is gone.
    statuses = [job["status"] for job in either.client.get("/jobs").json()["data"]]
    assert statuses == ["succeeded", "succeeded"]


def test_references(either: Service, backbone: Backbone) -> None:
    first, second = (published(either, backbone, name="red foxes") for _ in range(2))
    either.client.put("/models/red foxes/aliases/prod", json={"model": first})
    for reference, model_id in {
        "red foxes": second,
        "red%20foxes@latest": second,
        "red foxes@1": first,
        "red foxes%40prod": first,
        second: second,
    }.items():
        model = either.client.get(f"/models/{reference}").json()
        assert (model["id"], model["version"]) == (model_id, 1 if model_id == first else 2)
        assert model["aliases"] == (["prod"] if model_id == first else [])
    listed = either.client.get("/models").json()["data"]
    assert [(model["version"], model["aliases"]) for model in listed] == [(2, []), (1, ["prod"])]
    assert_problem(either.client.get("/models/red foxes@3"), 404, "model_not_found")
    refused = either.client.delete("/models/red foxes@prod")
    assert_problem(refused, 409, "model_has_aliases", r"red foxes@prod points to the model.*\?force=true")
    assert len(either.blobs.list(f"models/{first}")) == 2
    assert either.client.delete("/models/red foxes@prod", params={"force": True}).status_code == 204
    assert either.blobs.list(f"models/{first}") == []
    assert_problem(either.client.get("/models/red foxes@prod"), 404, "model_not_found")
    assert either.client.delete("/models/red foxes").status_code == 204
    assert either.client.get("/models").json()["data"] == []


def test_rename(fresh: Service, backbone: Backbone) -> None:
    first, second = (published(fresh, backbone, name="foxes") for _ in range(2))
    renamed = fresh.client.patch(f"/models/{first}", json={"name": " wolves "}).json()
    assert (renamed["id"], renamed["name"], renamed["version"]) == (first, "wolves", 1)
    assert fresh.client.get("/models/wolves").json() == renamed
    assert fresh.client.patch("/models/wolves", json={"name": "foxes"}).json()["version"] == 3
    nameless = fresh.client.patch("/models/foxes@3", json={"name": None}).json()
    assert (nameless["name"], nameless["version"]) == (None, None)
    fresh.client.put("/models/foxes/aliases/prod", json={"model": second})
    refused = fresh.client.patch("/models/foxes", json={"name": "wolves"})
    assert_problem(refused, 409, "model_has_aliases", "foxes@prod points to the model")
    same = fresh.client.patch("/models/foxes", json={"name": "foxes"}).json()
    assert (same["version"], same["aliases"]) == (2, ["prod"])
    assert_problem(fresh.client.patch("/models/none", json={"name": "x"}), 404, "model_not_found")
    for name in ("a@1", "a/b", "stock", "mdl_x", "x" * 201, "a\0"):
        refused = fresh.client.patch(f"/models/{first}", json={"name": name})
        assert_problem(refused, 422, "invalid_name", errors=[{"pointer": "/name"}])
    for body in ({}, {"name": 1}, {"name": "a", "alpha": 1}, []):
        assert_problem(fresh.client.patch(f"/models/{first}", json=body), 422, "invalid_request")


def test_a_worse_model_takes_its_name_only_when_a_person_says_so(fresh: Service, backbone: Backbone) -> None:
    worse = {**METRICS, "verdict": "probably_worse"}
    reason = {"code": "probably_worse", "detail": "It is probably worse than the pre-trained model."}
    alone = published(fresh, backbone, name="wolves", metrics=worse)
    good, bad = (
        published(fresh, backbone, name="foxes"),
        published(fresh, backbone, name="foxes", metrics=worse),
    )

    def classified(model: str) -> Any:
        data = {"class_names": ["red fox", "badger"], "model": model}
        return fresh.client.post("/classify", data=data, files=[("images", ("a.jpg", crafted.jpeg()))])

    assert classified("foxes").json()["model"] == good
    assert classified("foxes@2").json()["model"] == bad
    refused = fresh.client.get("/models/wolves")
    assert_problem(refused, 404, "model_not_promoted", f'PATCH /models/{alone} with {{"promoted": true}}')
    assert "wolves@1" in refused.json()["detail"]
    assert_problem(classified("wolves"), 404, "model_not_promoted", "Use `stock`")
    assert_problem(fresh.client.get("/models/wolves@3"), 404, "model_not_found")
    shown = fresh.client.get(f"/models/{bad}").json()
    assert (shown["promoted"], shown["not_promoted"]) == (False, reason)
    for path in (f"/jobs/{shown['job_id']}", "/jobs"):
        body = fresh.client.get(path).json()
        job = next(each for each in body.get("data", [body]) if each["id"] == shown["job_id"])
        assert (job["promoted"], job["not_promoted"]) == (False, reason)
    promoted = fresh.client.patch(f"/models/{bad}", json={"promoted": True}).json()
    assert (promoted["promoted"], promoted["not_promoted"]) == (True, None)
    assert classified("foxes").json()["model"] == bad
    assert fresh.client.get(f"/jobs/{shown['job_id']}").json()["promoted"] is True
    back = fresh.client.patch("/models/foxes@1", json={"promoted": True}).json()  # an older version
    assert (back["id"], fresh.client.get("/models/foxes").json()["id"]) == (good, good)
    assert fresh.client.get("/models/foxes@2").json()["promoted"] is False
    nameless = published(fresh, backbone, metrics=worse)
    refused = fresh.client.patch(f"/models/{nameless}", json={"promoted": True})
    assert_problem(refused, 409, "model_without_name", "Name it first")
    named = fresh.client.patch(f"/models/{nameless}", json={"name": "foxes", "promoted": True}).json()
    assert (named["version"], fresh.client.get("/models/foxes").json()["id"]) == (3, nameless)
    for body in ({"promoted": False}, {"promoted": None}):
        assert_problem(fresh.client.patch(f"/models/{bad}", json=body), 422, "invalid_request")


def test_filters(either: Service, backbone: Backbone) -> None:
    first = published(either, backbone, name="foxes", classes=["red fox", 'a "quoted" Ärmel'])
    second = published(either, backbone, name="wolves")
    third = published(either, backbone, name="foxes")
    made = either.client.get(f"/models/{second}").json()

    def found(**wanted: str) -> list[str]:
        response = either.client.get("/models", params=wanted)
        assert response.status_code == 200, response.text
        return [model["id"] for model in response.json()["data"]]

    assert found(name="foxes") == [third, first]
    cursor = either.client.get("/models", params={"name": "foxes", "limit": 1}).json()["next_cursor"]
    assert found(name="foxes", limit="1", after=cursor) == [first]
    assert found(class_name='a "quoted" Ärmel') == found(class_name='a "quoted" A\u0308rmel') == [first]
    assert found(class_name="Ä") == found(name="\0", class_name="\0") == []
    assert found(job_id=made["job_id"]) == [second]
    assert found(backbone=backbone.name) == [third, second, first]
    assert found(backbone="starter") == found(name="none") == []
    refused = either.client.get("/models", params={"nmae": "foxes"})
    assert_problem(refused, 422, "invalid_request", errors=[{"pointer": "/nmae"}])
