"""Calibrated probabilities, prediction sets and rejection in POST /classify, on a real model."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from core.clip.models.backbone import Backbone
from core.store.registry import models
from tests.api import crafted
from tests.api.service import Body, Service, assert_problem
from tests.core.serving import adapted
from tests.core.serving.adapted import publish_model

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
        "rejection_threshold": -1.0,
    }
    assert plain["calibration"]["calibrated"] is False
    for one, before in zip(chances(calibrated), chances(plain), strict=True):
        powers = {name: p ** (1 / 3) for name, p in before.items()}
        assert one == pytest.approx({name: p / sum(powers.values()) for name, p in powers.items()}, abs=1e-4)
    for result in calibrated["results"]:
        assert result["prediction_set"] is None
        assert result["rejected"] is None


def test_sets_and_rejection(world: tuple[Service, str, str]) -> None:
    service, knows, _ = world
    body = answered(service, knows, coverage="0.9", reject="true", top_k="1")
    for result in (r for r in body["results"] if r["predictions"]):
        assert len(result["predictions"]) == 1
        assert result["prediction_set"][0] == result["predictions"][0]["class_name"]
        assert set(result["prediction_set"]) <= set(NAMES)
        assert result["rejected"] is False
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
        "rejection_threshold": None,
    }
    for one, before in zip(
        chances(asked), chances(plain), strict=True
    ):  # the temperature is for all requests
        powers = {name: p ** (1 / (temperature or 1)) for name, p in before.items()}
        assert one == pytest.approx({name: p / sum(powers.values()) for name, p in powers.items()}, abs=1e-4)
    for options in ({"coverage": "0.9"}, {"reject": "true"}):
        refused = post_classify(service, knows, **change, **options)
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
    assert_problem(refused, 422, "not_calibrated", "still being evaluated")
    with service.database.write() as session:
        models.set_metrics(session, model, {"verdict": "better", "calibration": KNOWN.to_dict()})
    assert answered(service, model, coverage="0.9")["calibration"]["calibrated"] is True


@pytest.mark.parametrize("coverage", ["0.2", "1", "nan", "much"])
def test_an_impossible_coverage_is_refused(world: tuple[Service, str, str], coverage: str) -> None:
    service, knows, _ = world
    assert_problem(post_classify(service, knows, coverage=coverage), 422, "invalid_request", "coverage")
