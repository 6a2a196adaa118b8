"""Evaluation of a model on test images: no training, and only the result is stored."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from api.evaluation import evaluate as evaluation
from api.serving.types import WeightsKey
from core.clip.data.decoder import Decoder
from core.clip.models.backbone import Backbone, load_backbone
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.tables import Model
from core.store.registry import models
from tests.api import crafted
from tests.api.service import Service, assert_problem, form
from tests.api.serving.adapted import publish_model


@pytest.fixture(scope="module")
def model(shared: Service, backbone: Backbone) -> str:
    """Return a model of a red fox and a badger."""
    prompts = {"Red FOX": ["a secret sentence"]}  # names are compared without case
    return publish_model(shared.database, shared.blobs, backbone, name="animals", prompts=prompts)


def evaluate(service: Service, model: str, **fields: Any) -> httpx.Response:
    return service.client.post(f"/models/{model}/evaluate", **form(**fields))


def predicted(service: Service, model: str, images: list[bytes], names: list[Any]) -> list[dict[str, Any]]:
    """Return the first prediction of /classify for each image."""
    files = [("images", ("a.jpg", data)) for data in images]
    fields = {"model": model, "class_names": json.dumps(names)}
    answer = service.client.post("/classify", data=fields, files=files)
    assert answer.status_code == 200, answer.text
    return [result["predictions"][0] for result in answer.json()["results"]]


PROMPTED: list[Any] = [
    {"name": "red fox", "prompts": ["a secret sentence"]},
    {"name": "Badger"},
    {"name": "oak"},
]
IMAGES = [crafted.jpeg(seed) for seed in range(20)]
LABELS = ["RED FOX", "badger", "oak"] * 6 + ["badger", "oak"]


def test_twenty_images_are_compared_with_their_labels(
    shared: Service, model: str, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "PART", 7)
    files = [(f"{number}.jpg", data) for number, data in enumerate(IMAGES)]
    answer = evaluate(shared, "animals", images=files, labels=LABELS)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    names = ["red fox", "Badger", "oak"]
    labels = [next(name for name in names if name.lower() == label.lower()) for label in LABELS]
    best = predicted(shared, model, IMAGES, names)
    right = [prediction["class_name"] == label for prediction, label in zip(best, labels, strict=True)]
    assert 0 < sum(right) < 20
    stock = predicted(shared, f"stock:{backbone.name}", IMAGES, PROMPTED)
    right_before = [one["class_name"] == label for one, label in zip(stock, labels, strict=True)]
    assert (body["images"], body["correct"], body["accuracy"]) == (20, sum(right), sum(right) / 20)
    assert body["interval"][0] < body["accuracy"] < body["interval"][1]
    assert body["classes"] == [
        {
            "name": name,
            "images": labels.count(name),
            "correct": sum(r for r, label in zip(right, labels, strict=True) if label == name),
            "stock_correct": sum(r for r, label in zip(right_before, labels, strict=True) if label == name),
        }
        for name in names
    ]
    counted = Counter(zip(labels, (one["class_name"] for one in best), strict=True))
    assert body["confusion_matrix"] == [[counted[true, guess] for guess in names] for true in names]
    assert body["difference"]["value"] == pytest.approx((sum(right) - sum(right_before)) / 20)
    assert f"{100 * body['accuracy']:.0f}% correct" in body["sentences"][1]
    wrong = [
        {
            "file": f"{number}.jpg",
            "class_name": label,
            "predicted": prediction["class_name"],
            "probability": pytest.approx(prediction["probability"], abs=1e-5),
        }
        for number, (prediction, label) in enumerate(zip(best, labels, strict=True))
        if prediction["class_name"] != label
    ]
    assert body["mistakes"] == sorted(wrong, key=lambda row: -row["probability"].expected)
    assert [warning["code"] for warning in body["warnings"]] == ["new_classes"]
    assert "'oak'" in body["warnings"][0]["detail"]
    kept = shared.client.get("/models/animals/evaluation")
    assert kept.json() == body


def test_both_models_share_the_decoded_images(
    shared: Service, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    decode = Decoder.decode

    def counted(process: Decoder, data: bytes, *arguments: Any) -> Any:
        opened.append(data)
        return decode(process, data, *arguments)

    monkeypatch.setattr(Decoder, "decode", counted)
    answer = evaluate(shared, model, images=[("a.jpg", IMAGES[0]), ("b.jpg", IMAGES[1])], labels=LABELS[:2])
    assert answer.status_code == 200, answer.text
    assert sorted(opened) == sorted(IMAGES[:2] * 2)  # once to check them, and once for both models


def test_the_pre_trained_model_gets_the_same_names_and_prompts(
    shared: Service, model: str, backbone: Backbone
) -> None:
    files = [(f"{number}.jpg", data) for number, data in enumerate(IMAGES)]
    labels = ["red fox"] * 20
    body = evaluate(shared, model, images=files, labels=labels).json()
    names = [{"name": "red fox", "prompts": ["a secret sentence"]}, {"name": "Badger"}]
    sent = [{"base64": base64.b64encode(data).decode()} for data in IMAGES]
    fields = {"model": f"stock:{backbone.name}", "class_names": names, "images": sent}
    results = shared.client.post("/classify", json=fields).json()["results"]
    stock = [result["predictions"][0]["class_name"] for result in results]
    assert body["stock_accuracy"] == stock.count("red fox") / 20
    assert body["warnings"] == []


def test_the_pre_trained_model_has_the_models_image_size(
    shared: Service, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = load_backbone(backbone.name, cache=tmp_path, image_size=48)
    model = publish_model(shared.database, shared.blobs, large)
    pool, sizes = shared.app.state.serving.engine.pool, []
    acquire = pool.acquire

    def watched(key: WeightsKey, *given: Any, **options: Any) -> Any:
        sizes.append(key.image_size)
        return acquire(key, *given, **options)

    monkeypatch.setattr(pool, "acquire", watched)
    answer = evaluate(shared, model, images=[("a.jpg", IMAGES[0])], labels=["badger"])
    assert answer.status_code == 200, answer.text
    assert sizes == [48, 48]


def test_an_archive_with_a_single_class_and_all_of_its_folders_are_test_images(
    shared: Service, model: str
) -> None:
    files = {"train/badger/a.jpg": IMAGES[0], "test/badger/b.jpg": IMAGES[1]}
    body = evaluate(shared, model, archive=crafted.zip_of(files)).json()
    assert [(row["name"], row["images"]) for row in body["classes"] if row["images"]] == [("Badger", 2)]


def test_bad_images_are_refused_or_left_out(shared: Service, model: str) -> None:
    files = {"badger/a.jpg": IMAGES[0], "badger/b.jpg": b"no image"}
    assert_problem(evaluate(shared, model, archive=crafted.zip_of(files)), 422, "bad_images")
    body = evaluate(shared, model, archive=crafted.zip_of(files), on_bad_image="skip").json()
    assert (body["images"], [warning["code"] for warning in body["warnings"]]) == (1, ["bad_image"])
    none = crafted.zip_of({"badger/b.jpg": b"no image"})
    assert_problem(evaluate(shared, model, archive=none, on_bad_image="skip"), 422, "bad_images", "None of")
    assert_problem(evaluate(shared, model), 422, "archive_or_images")
    assert_problem(evaluate(shared, model, name="x"), 422, "invalid_request", "`name`")
    assert_problem(evaluate(shared, "nobody", archive=none), 404, "model_not_found")


def test_an_evaluation_without_room_is_refused_before_its_first_part(shared: Service, model: str) -> None:
    files = {"images": [("a.jpg", IMAGES[0])], "labels": ["badger"]}
    images = shared.app.state.serving.images
    with images.hold(DEFAULT_OWNER, images.share):
        assert_problem(evaluate(shared, model, **files), 503, "busy", "Try again")
    assert evaluate(shared, model, **files).status_code == 200
    assert images.held == 0


def stored_below(service: Service, model: str) -> list[str]:
    return sorted(blob.key.rpartition("/")[2] for blob in service.blobs.list(f"models/{model}"))


def test_the_last_evaluation_stays_with_the_model(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone, name="animals")
    assert_problem(fresh.client.get(f"/models/{model}/evaluation"), 404, "evaluation_not_found", "evaluate")
    weights = stored_below(fresh, model)
    for images in (1, 3):  # the second one replaces the first
        files = [(f"{number}.jpg", data) for number, data in enumerate(IMAGES[:images])]
        body = evaluate(fresh, model, images=files, labels=["badger"] * images).json()
        assert fresh.client.get(f"/models/{model}/evaluation").json() == body
        assert len(stored_below(fresh, model)) == len(weights) + 1
    shown = fresh.client.get(f"/models/{model}").json()
    assert shown["evaluated"]
    assert shown["metrics"]["measured_on"]["images"] == 3
    assert fresh.client.delete(f"/models/{model}").status_code == 204
    assert stored_below(fresh, model) == []


def metrics_of(images: int) -> dict[str, Any]:
    accuracy = {"stock": 0.5, "adapted": 0.9, "interval": (0.8, 0.95), "difference": None}
    return {
        "measured_on": {"source": "cross_validation", "images": images, "trained_images": images},
        "trained_classes": accuracy,
        "verdict": "better",
    }


@pytest.mark.parametrize(("before", "sent", "replaces"), [(10, 9, False), (10, 10, True), (200, 20, False)])
def test_an_evaluation_of_enough_images_replaces_the_verdict(
    shared: Service, backbone: Backbone, before: int, sent: int, replaces: bool
) -> None:
    model = publish_model(shared.database, shared.blobs, backbone, metrics=metrics_of(before))
    files = [(f"{number}.jpg", data) for number, data in enumerate(IMAGES[:sent])]
    body = evaluate(shared, model, images=files, labels=LABELS[:sent]).json()
    found = shared.client.get(f"/models/{model}").json()
    metrics = found["metrics"]
    assert shared.client.get(f"/jobs/{found['job_id']}").json()["metrics"] == metrics
    assert metrics["measured_on"]["images"] == (sent if replaces else before)
    assert (metrics["sentences"] == body["sentences"]) is replaces
    assert ("verdict_kept" in [warning["code"] for warning in body["warnings"]]) is not replaces
    assert shared.client.get(f"/models/{model}/evaluation").json() == body


def test_the_end_of_the_job_keeps_an_earlier_evaluation(shared: Service, backbone: Backbone) -> None:
    model = publish_model(shared.database, shared.blobs, backbone, metrics={"verdict": "evaluating"})
    body = evaluate(shared, model, images=[("a.jpg", IMAGES[0])], labels=["badger"]).json()
    with shared.database.write() as session:
        models.set_metrics(session, model, metrics_of(24))
    assert shared.client.get(f"/models/{model}/evaluation").json() == body
    assert shared.client.get(f"/models/{model}").json()["metrics"]["measured_on"]["images"] == 24


def test_images_that_trained_the_model_are_left_out(fresh: Service, backbone: Backbone) -> None:
    job = fresh.client.post(
        "/adapt", **form(images=[("a.jpg", IMAGES[0]), ("b.jpg", IMAGES[1])], labels=["red fox", "badger"])
    ).json()
    model = publish_model(fresh.database, fresh.blobs, backbone)
    with fresh.database.write() as session:
        session.execute(update(Model).where(Model.id == model).values(job_id=job["id"]))
    files = [("a.jpg", IMAGES[0]), ("c.jpg", IMAGES[2])]
    body = evaluate(fresh, model, images=files, labels=["red fox", "badger"]).json()
    assert (body["images"], [warning["code"] for warning in body["warnings"]]) == (1, ["trained_images"])
    refused = evaluate(fresh, model, images=files[:1], labels=["red fox"])
    assert_problem(refused, 422, "trained_images", "trained on all")
