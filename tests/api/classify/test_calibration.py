"""Calibrated probabilities, prediction sets and something else in POST /classify, on a real model."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from api.piles.features import encode
from api.serving.service import look_up
from core.clip.errors import BadImage
from core.clip.inference import pile
from core.clip.inference.graph import unit
from core.clip.models.backbone import Backbone
from core.clip.weights.support_set import SupportSet
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.registry import models
from tests.api import crafted
from tests.api.service import Body, Service, assert_problem, shots
from tests.api.serving import adapted
from tests.api.serving.adapted import publish_model

KNOWN = replace(adapted.KNOWN, temperature=3.0)
NAMES = ["badger", "red fox", "hare"]


@pytest.fixture(scope="module")
def world(
    new_service: Callable[..., AbstractContextManager[Service]], backbone: Backbone
) -> Iterator[tuple[Service, str, str]]:
    """Return the service, a model with a calibration and the same model without one."""
    with new_service() as service:
        made = [
            publish_model(service.database, service.blobs, backbone, classes=NAMES, metrics=metrics)
            for metrics in ({"calibration": KNOWN.to_dict()}, {"calibration": None})
        ]
        yield service, made[0], made[1]


def post_classify(service: Service, model: str, names: list[str] = NAMES, **data: Any) -> Any:
    files = [("images", (f"{i}.jpg", crafted.jpeg(i))) for i in range(3)]
    files.insert(1, ("images", ("bad.jpg", b"no image")))
    return service.client.post("/classify", data={"class_names": names, "model": model, **data}, files=files)


def answered(*given: Any, **data: Any) -> Body:
    response = post_classify(*given, **data)
    assert response.status_code == 200, response.text
    body: Body = response.json()
    assert "error" in body["results"][1]
    return body


def chances(body: Body) -> list[dict[str, float]]:
    return [
        {p["class_name"]: p["probability"] for p in result["predictions"]}
        for result in body["results"]
        if result["predictions"]
    ]


def test_probabilities_are_calibrated(world: tuple[Service, str, str]) -> None:
    service, knows, other = world
    calibrated, plain = answered(service, knows), answered(service, other)
    assert calibrated["calibration"] == {
        "calibrated": True,
        "temperature": 3.0,
        "held_out_images": 40,
        "likeness_limit": None,
    }
    assert plain["calibration"]["calibrated"] is False
    for one, before in zip(chances(calibrated), chances(plain), strict=True):
        powers = {name: p ** (1 / 3) for name, p in before.items()}
        assert one == pytest.approx({name: p / sum(powers.values()) for name, p in powers.items()}, abs=1e-4)
    for result in calibrated["results"]:
        assert result["prediction_set"] is None
        assert result["something_else"] is None


def test_prediction_sets(world: tuple[Service, str, str]) -> None:
    service, knows, _ = world
    body = answered(service, knows, coverage="0.9", top_k="1")
    for result in (r for r in body["results"] if r["predictions"]):
        assert len(result["predictions"]) == 1
        assert result["prediction_set"][0] == result["predictions"][0]["class_name"]
        assert set(result["prediction_set"]) <= set(NAMES)
        assert result["something_else"] is None
    assert body["results"][1]["prediction_set"] is None
    most = answered(service, knows, coverage="0.99")
    assert all(set(r["prediction_set"]) == set(NAMES) for r in most["results"] if r["predictions"])


@pytest.mark.parametrize(
    "change",
    [
        {"names": [*NAMES, "oak"]},
        {"alpha": "0.6"},
        {"new_class_balance": "0"},
    ],
)
def test_the_calibration_holds_for_its_own_classes_and_settings_only(
    world: tuple[Service, str, str], change: dict[str, Any]
) -> None:
    service, knows, other = world
    asked, plain = answered(service, knows, **change), answered(service, other, **change)
    temperature = None if "alpha" in change else 3.0
    assert asked["calibration"] == {
        "calibrated": False,
        "temperature": temperature,
        "held_out_images": None,
        "likeness_limit": None,
    }
    for one, before in zip(
        chances(asked), chances(plain), strict=True
    ):  # the temperature is for all requests
        powers = {name: p ** (1 / (temperature or 1)) for name, p in before.items()}
        assert one == pytest.approx({name: p / sum(powers.values()) for name, p in powers.items()}, abs=1e-4)
    refused = post_classify(service, knows, **change, coverage="0.9")
    assert_problem(refused, 422, "not_calibrated", "exactly its trained classes")
    for model in ("stock", other):
        assert_problem(post_classify(service, model, coverage="0.9"), 422, "not_calibrated")


def test_a_model_is_not_calibrated_before_its_evaluation(
    world: tuple[Service, str, str], backbone: Backbone
) -> None:
    service, _, _ = world
    metrics = {"verdict": "evaluating"}
    model = publish_model(service.database, service.blobs, backbone, classes=NAMES, metrics=metrics)
    assert answered(service, model)["calibration"]["calibrated"] is False
    refused = post_classify(service, model, coverage="0.9")
    assert_problem(refused, 422, "not_calibrated", "evaluation, which is still running")
    with service.database.write() as session:
        models.set_metrics(session, model, {"verdict": "better", "calibration": KNOWN.to_dict()})
    assert answered(service, model, coverage="0.9")["calibration"]["calibrated"] is True


def test_reject_needs_training_images_and_no_evaluation(
    world: tuple[Service, str, str], backbone: Backbone
) -> None:
    """The score is the cosine with the nearest class mean; the limit comes from the training images."""
    service, knows, other = world
    images = [crafted.jpeg(i, *size) for size in ((40, 30), (30, 200)) for i in range(9)]
    asked: Body = {"images": [{"base64": base64.b64encode(image).decode()} for image in images]}
    serving = service.app.state.serving
    with serving.hold(look_up(service.database, other, owner=DEFAULT_OWNER), None) as held:
        found = encode(serving, images, held.served, DEFAULT_OWNER)
    rows = unit(np.stack([row.astype(np.float32) for row in found if not isinstance(row, BadImage)]))
    labels = np.arange(9) % 3
    support = SupportSet(torch.from_numpy(rows[:9]).expand(3, -1, -1), torch.from_numpy(labels))
    model = publish_model(service.database, service.blobs, backbone, classes=NAMES, shots=support)
    for names in (NAMES, NAMES[:2], [*NAMES, "oak", "elm", "ash"]):
        asked |= {"model": model, "class_names": names, "something_else": True}
        response = service.client.post("/classify", json=asked)
        assert response.status_code == 200, response.text
        body: Body = response.json()
        trained = np.arange(min(3, len(names)))
        expected = pile.alone(pile.Support(rows[:9], labels), rows, trained)
        assert body["calibration"]["calibrated"] is False
        limit = body["calibration"]["likeness_limit"]
        assert limit == pytest.approx(expected.limit, abs=2e-3)
        scores = [result["likeness"] for result in body["results"]]
        assert scores == pytest.approx(expected.score.tolist(), abs=2e-3)
        best = [result["predictions"][0]["class_name"] for result in body["results"]]
        new = [name not in NAMES for name in best]  # nothing to compare with
        flags = [score < limit and not is_new for score, is_new in zip(scores, new, strict=True)]
        assert [result["something_else"] for result in body["results"]] == flags
    for names, reference, words in (
        (["oak"], model, "none of the class names was trained"),
        (NAMES, "stock", "Use a trained model"),
        (NAMES, knows, "Use a trained model"),
    ):
        refused = post_classify(service, reference, names, something_else="true")
        assert_problem(refused, 422, "no_training_images", words)
    refused = post_classify(service, model, NAMES, something_else="true", alpha="0")
    assert_problem(refused, 422, "no_training_images", "an alpha above 0")


def test_an_instant_preview_rejects(world: tuple[Service, str, str]) -> None:
    service, _, _ = world
    job = service.accepted(**shots())["id"]
    body = answered(service, job, ["red fox", "badger"], something_else="true")
    assert body["preview"]
    readable = [result for result in body["results"] if result["predictions"]]
    assert {type(result["something_else"]) for result in readable} == {bool}
    assert body["results"][1]["something_else"] is None


@pytest.mark.parametrize("coverage", ["0.2", "1", "nan", "much"])
def test_an_impossible_coverage_is_refused(world: tuple[Service, str, str], coverage: str) -> None:
    service, knows, _ = world
    assert_problem(post_classify(service, knows, coverage=coverage), 422, "invalid_request", "coverage")
