"""Models created and deleted under load: no request fails or gets another model's answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import Service, assert_problem
from tests.core.serving.adapted import moved, publish_model

IMAGE = ("images", ("a.jpg", crafted.jpeg()))


def classify(service: Service, model: str) -> Any:
    return service.client.post(
        "/classify", data={"class_names": ["fox", "oak"], "model": model}, files=[IMAGE]
    )


def similarities(answer: Any) -> dict[str, float]:
    (result,) = answer.json()["results"]
    return {p["class_name"]: p["similarity"] for p in result["predictions"]}


def expected_of(service: Service, model: str) -> Any:
    """Compare up to rounding, which differs between batches."""
    return pytest.approx(similarities(classify(service, model)), abs=1e-5)


def test_a_model_deleted_under_load(fresh: Service, backbone: Backbone) -> None:
    """Requests in progress complete and later ones get 404; no other status occurs, and nothing remains."""
    fresh.app.state.serving.warm_up()
    for _ in range(2):
        model = publish_model(fresh.database, fresh.blobs, backbone)
        asking = threading.Barrier(5)

        def classify_repeatedly(model: str = model, asking: threading.Barrier = asking) -> list[int]:
            asking.wait(60)
            return [classify(fresh, model).status_code for _ in range(6)]

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(classify_repeatedly) for _ in range(4)]
            asking.wait(60)
            assert fresh.client.delete(f"/models/{model}").status_code == 204
            statuses = {status for one in asked for status in one.result()}
        assert statuses <= {200, 404}
        assert classify(fresh, model).status_code == 404
        assert fresh.blobs.list(f"models/{model}") == []


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


def test_every_answer_comes_from_the_requested_model(fresh: Service, backbone: Backbone) -> None:
    """Models are immutable. While ten are published in turn, each answer comes from the requested model."""
    models = [publish_model(fresh.database, fresh.blobs, backbone)]
    expected = {models[0]: expected_of(fresh, models[0])}
    done = threading.Event()
    wrong: list[Any] = []

    def classify_repeatedly() -> None:
        while not done.is_set():
            for model in list(expected):
                answer = classify(fresh, model)
                if answer.status_code != 200 or similarities(answer) != expected[model]:
                    wrong.append((model, answer.text))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(classify_repeatedly) for _ in range(2)]
        try:
            for seed in range(2, 12):
                theta_1 = moved(backbone, seed)
                model = publish_model(fresh.database, fresh.blobs, backbone, theta_1=theta_1)
                expected[model] = expected_of(fresh, model)
        finally:
            done.set()
        for one in asking:
            one.result()
    assert wrong == []
    assert len({str(results) for results in expected.values()}) == 11
