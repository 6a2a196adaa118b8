"""The embeddings of OpenAI's API. tests/neighbours runs OpenAI's own clients against a service."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest

from api.serving.pool.cache import StillLoading
from core.clip.data.images import open_image
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from tests.api import crafted
from tests.api.service import Service
from tests.api.serving.adapted import CLASSES, moved, publish_model

JPEG = crafted.jpeg(1)
DATA_URL = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
PROMPTS = [f"a photo of a {name}." for name in CLASSES]


@pytest.fixture(scope="module")
def shared(
    new_service: Callable[..., AbstractContextManager[Service]], backbone: Backbone
) -> Iterator[Service]:
    with new_service(admin_key="a" * 32) as made:
        made.client.headers["Authorization"] = f"Bearer {'a' * 32}"
        publish_model(made.database, made.blobs, backbone, alpha=0.4, name="shoes")
        yield made


def embed(service: Service, given: Any, **fields: Any) -> httpx.Response:
    return service.client.post("/v1/embeddings", json={"model": "shoes", "input": given, **fields})


def vectors(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    rows = response.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return np.array([row["embedding"] for row in rows], dtype=np.float32)


def test_features_are_those_of_the_library(shared: Service, backbone: Backbone) -> None:
    delta = encode(tower_parameters(backbone.model), moved(backbone), "full")
    expected = Classifier(backbone, Weights(delta), 0.4)
    response = embed(shared, [PROMPTS[0], DATA_URL, {"image": DATA_URL}, {"text": PROMPTS[1]}])
    image = expected.image_features(expected.preprocess([open_image(JPEG)])).numpy()[0]
    texts = expected.text_features([[prompt] for prompt in PROMPTS]).numpy()
    got = vectors(response)
    np.testing.assert_allclose(got, [texts[0], image, image, texts[1]], rtol=0, atol=1e-5)
    assert response.headers["x-clipcite-content"].endswith("@0.4")
    encoded = embed(shared, [PROMPTS[0], DATA_URL], encoding_format="base64").json()["data"]
    decoded = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in encoded]
    np.testing.assert_allclose(decoded, got[:2], rtol=0, atol=1e-6)


def test_the_softmax_of_scaled_cosines_is_the_papers_answer(shared: Service, backbone: Backbone) -> None:
    rows = vectors(embed(shared, [DATA_URL, *PROMPTS], alpha=0.7))
    scores = backbone.logit_scale * rows[1:] @ rows[0]
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    options = {"class_names": list(CLASSES), "new_class_balance": 0, "alpha": 0.7, "model": "shoes"}
    body = {**options, "images": [{"base64": DATA_URL}], "templates": ["a photo of a {}."]}
    predictions = shared.client.post("/classify", json=body).json()["results"][0]["predictions"]
    found = {p["class_name"]: p["probability"] for p in predictions}
    np.testing.assert_allclose([found[name] for name in CLASSES], probabilities, rtol=0, atol=1e-5)


def test_the_models(shared: Service) -> None:
    assert [row["id"] for row in shared.client.get("/v1/models").json()["data"]] == ["stock", "shoes@1"]
    stock = embed(shared, "a boot", model="stock", alpha=0.3)
    assert stock.headers["x-clipcite-content"].endswith("@0")


@pytest.mark.parametrize(
    ("given", "status", "param", "code"),
    [
        ({"input": [1, 2]}, 400, "/input/0", "invalid_request"),
        ({"input": {"image": "https://example.org/a.jpg"}}, 400, "/input/0", "invalid_request"),
        ({"input": ["a", "https://example.org/a.jpg"]}, 400, "/input/1", "invalid_request"),
        ({"input": ["a", "data:image/png;base64,AAAA"]}, 400, "/input/1", "not_an_image"),
        ({"input": ["a"] * 2_049}, 400, "/input", "too_many_inputs"),
        ({"input": []}, 400, "/input", "too_many_inputs"),
        ({"input": ""}, 400, "/input/0", "invalid_request"),
        ({"dimensions": 7}, 400, "/dimensions", "invalid_request"),
        ({"alhpa": 1}, 400, "/alhpa", "invalid_request"),
        ({"model": "boots"}, 404, None, "model_not_found"),
        ({"model": "stock:none"}, 422, None, "unknown_backbone"),
    ],
)
def test_errors_are_those_of_openai(
    shared: Service, given: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    response = embed(shared, **{"given": given.pop("input", "a"), **given})
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code), error
    assert (error["type"], set(error)) == ("invalid_request_error", {"message", "type", "param", "code"})


def test_a_model_that_loads(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.app.state.serving, "hold", Mock(side_effect=StillLoading))
    response = embed(shared, "a boot")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "model_loading")


def test_errors_outside_the_route(shared: Service) -> None:
    """A wrong key, an unknown route and a body above the limit are refused by other parts of the service."""
    wrong = shared.client.post("/v1/embeddings", headers={"Authorization": "Bearer x"}, json={})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "unauthorized")
    unknown = shared.client.post("/v1/chat/completions", json={})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    values = shared.client.post("/v1/embeddings", json={"input": [[0]] * 100_000})
    assert (values.status_code, values.json()["error"]["code"]) == (413, "too_many_values")
