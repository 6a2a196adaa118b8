"""Hugging Face's clients for Python and JavaScript against POST /hf/{model}."""

from typing import Any

import pytest

from clipcite import Client
from tests.neighbours.conftest import CLASSES, Neighbours

PYTHON = """
import json, os
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
def client(model, token=os.environ["KEY"]):
    return InferenceClient(model=f"{os.environ['URL']}/hf/{model}", token=token)
image, labels = os.environ["IMAGE"], ["sandal", "oak"]
def error(model, token=os.environ["KEY"]):
    try:
        client(model, token).zero_shot_image_classification(image, candidate_labels=labels)
    except HfHubHTTPError as error:
        return [error.response.status_code, str(error)]
shoes = client("shoes@prod")
plain = lambda rows: [[row.label, row.score] for row in rows]
template = "a drawing of a {}."
print(json.dumps({
    "given": plain(shoes.zero_shot_image_classification(
        image, candidate_labels=labels, hypothesis_template=template)),
    "trained": plain(shoes.image_classification(image)),
    "best": plain(shoes.image_classification(image, top_k=1)),
    "errors": [error("boots"), error("shoes@prod", "wrong")],
}))
"""
NODE = """
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";
const image = new Blob([readFileSync(process.env.IMAGE)]);
const labels = ["sandal", "oak"];
const at = (model, key = process.env.KEY) =>
  new InferenceClient(key, { endpointUrl: `${process.env.URL}/hf/${model}` });
const given = (client, template) =>
  client.zeroShotImageClassification({
    inputs: image,
    parameters: { candidate_labels: labels, hypothesis_template: template },
  });
const plain = (rows) => rows.map((row) => [row.label, row.score]);
const error = (client) => given(client).catch((e) => [e.httpResponse?.status, e.message]);
const shoes = at("shoes@prod");
console.log(JSON.stringify({
  given: plain(await given(shoes, "a drawing of a {}.")),
  trained: plain(await shoes.imageClassification({ data: image })),
  best: plain(await shoes.imageClassification({ inputs: image, parameters: { top_k: 1 } })),
  errors: [await error(at("boots")), await error(at("shoes@prod", "wrong"))],
}));
"""


def answer(client: Client, image: Any, *names: str, **options: Any) -> list[list[Any]]:
    result = client.classify(image, list(names) or None, model="shoes@prod", **options).results[0]
    return [[p.class_name, pytest.approx(p.probability, abs=1e-6)] for p in result.predictions]


@pytest.mark.parametrize("language", ["python", "node"])
def test_image_classification(neighbours: Neighbours, client: Client, language: str) -> None:
    said = neighbours.python(PYTHON) if language == "python" else neighbours.node(NODE)
    image = neighbours.image
    assert said["given"] == answer(client, image, "sandal", "oak", templates=["a drawing of a {}."])
    assert said["trained"] == answer(client, image)
    assert {name for name, _ in said["trained"]} == set(CLASSES)
    # The client for JavaScript leaves the parameters of this task out.
    assert said["best"] == said["trained"][: 1 if language == "python" else None]
    (no_model, says), (no_key, _) = said["errors"]
    assert (no_model, no_key) == (404, 401)
    assert "There is no model" in says
