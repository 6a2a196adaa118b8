"""Evaluation of a model on test images: no training, and nothing is stored."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.corrections import evaluate as evaluation
from api.serving.types import WeightsKey
from core.clip.data.decoder import Decoder
from core.clip.models.backbone import Backbone, load_backbone
from core.store.accounts.owners import DEFAULT_OWNER
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


def predicted(service: Service, model: str, images: list[bytes], names: list[str]) -> list[dict[str, Any]]:
    """Return the first prediction of /classify for each image."""
    files = [("images", ("a.jpg", data)) for data in images]
    fields = {"model": model, "class_names": names}
    answer = service.client.post("/classify", data=fields, files=files)
    assert answer.status_code == 200, answer.text
    return [result["predictions"][0] for result in answer.json()["results"]]


IMAGES = [crafted.jpeg(seed) for seed in range(20)]
LABELS = ["RED FOX", "badger", "oak"] * 6 + ["badger", "oak"]


def test_twenty_images_are_compared_with_their_labels(
    shared: Service, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "PART", 7)
    before = shared.stored()
    files = [(f"{number}.jpg", data) for number, data in enumerate(IMAGES)]
    answer = evaluate(shared, "animals", images=files, labels=LABELS)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    names = ["red fox", "Badger", "oak"]
    labels = [next(name for name in names if name.lower() == label.lower()) for label in LABELS]
    best = predicted(shared, model, IMAGES, names)
    right = [prediction["class_name"] == label for prediction, label in zip(best, labels, strict=True)]
    assert 0 < sum(right) < 20
    assert (body["images"], body["correct"], body["accuracy"]) == (20, sum(right), sum(right) / 20)
    assert body["interval"][0] < body["accuracy"] < body["interval"][1]
    assert body["classes"] == [
        {
            "name": name,
            "images": labels.count(name),
            "correct": sum(r for r, label in zip(right, labels, strict=True) if label == name),
        }
        for name in names
    ]
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
    assert shared.stored() == before  # no job, no image, no temporary file


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
    assert body["classes"] == [{"name": "Badger", "images": 2, "correct": body["correct"]}]


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
