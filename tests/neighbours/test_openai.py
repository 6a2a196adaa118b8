"""OpenAI's clients for Python and JavaScript against POST /v1/embeddings."""

import pytest

from clipcite import Client
from tests.neighbours.conftest import CLASSES, Neighbours

PYTHON = """
import base64, json, os, openai
client = openai.OpenAI(base_url=os.environ["URL"] + "/v1", api_key=os.environ["KEY"])
image = "data:image/jpeg;base64," + base64.b64encode(open(os.environ["IMAGE"], "rb").read()).decode()
texts = ["a photo of a boot.", "a photo of a sandal."]
def embed(**options):
    given = {"model": "shoes@prod", "input": [image, *texts], **options}
    return [row.embedding for row in client.embeddings.create(**given).data]
def error(client=client, **options):
    try:
        client.embeddings.create(**{"model": "shoes@prod", "input": "a boot", **options})
    except openai.APIStatusError as error:
        return [type(error).__name__, error.code, error.param, error.message]
print(json.dumps({
    "base64": embed(),
    "float": embed(encoding_format="float"),
    "models": [model.id for model in client.models.list()],
    "errors": [
        error(model="boots"),
        error(input=[1, 2, 3]),
        error(input=["a"] * 2049),
        error(dimensions=3),
        error(client.with_options(api_key="wrong")),
    ],
}))
"""
NODE = """
import { readFileSync } from "node:fs";
import OpenAI from "openai";
const client = new OpenAI({ baseURL: `${process.env.URL}/v1`, apiKey: process.env.KEY });
const image = `data:image/jpeg;base64,${readFileSync(process.env.IMAGE, "base64")}`;
const input = [image, "a photo of a boot.", "a photo of a sandal."];
const embed = async (options) => {
  const { data } = await client.embeddings.create({ model: "shoes@prod", input, ...options });
  return data.map((row) => row.embedding);
};
const error = (model) =>
  client.embeddings.create({ model, input }).catch((error) => [error.constructor.name, error.code]);
console.log(JSON.stringify({
  base64: await embed({}),
  float: await embed({ encoding_format: "float" }),
  models: (await client.models.list()).data.map((model) => model.id),
  errors: [await error("boots")],
}));
"""


@pytest.mark.parametrize("language", ["python", "node"])
def test_embeddings(neighbours: Neighbours, client: Client, language: str) -> None:
    said = neighbours.python(PYTHON) if language == "python" else neighbours.node(NODE)
    assert {"stock", "shoes@1"} <= {*said["models"]}
    for encoded, plain in zip(said["base64"], said["float"], strict=True):
        assert encoded == pytest.approx(plain, abs=1e-6)
        assert sum(x * x for x in encoded) == pytest.approx(1, abs=1e-5)
    image, *texts = said["base64"]
    answer = client.classify(
        neighbours.image, CLASSES, model="shoes@prod", templates=["a photo of a {}."], new_class_balance=0
    )
    similarities = {p.class_name: p.similarity for p in answer.results[0].predictions}
    for name, text in zip(CLASSES, texts, strict=True):
        assert sum(a * b for a, b in zip(image, text, strict=True)) == pytest.approx(
            similarities[name], abs=1e-5
        )
    assert said["errors"][0][:2] == ["NotFoundError", "model_not_found"]
    assert [error[:3] for error in said["errors"][1:]] == [
        ["BadRequestError", "invalid_request", "/input/0"],
        ["BadRequestError", "too_many_inputs", "/input"],
        ["BadRequestError", "invalid_request", "/dimensions"],
        ["AuthenticationError", "token_needed", None],
    ] * (language == "python")
