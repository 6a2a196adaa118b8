"""Exports, used by numpy, onnxruntime and transformers alone, and by the steps of Immich's loaders."""

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from clipcite import Client
from tests.neighbours.conftest import CLASSES, Neighbours

CLASSIFIER = """
import json, os, sys
import numpy as np
import onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession("classifier.onnx")
names = json.loads(session.get_modelmeta().custom_metadata_map["names"])
image = np.asarray(Image.open(os.environ["IMAGE"]).convert("RGB"))
rows = session.run(None, {"image": np.stack([image, image])})[0]
print(json.dumps([names, *rows.tolist()]))
"""
IMMICH = """
import json, os
import numpy as np
import onnxruntime
from pathlib import Path
from PIL import Image
from tokenizers import Tokenizer
[folder] = Path("clip").iterdir()
text_config = json.loads((folder / "config.json").read_text())["text_cfg"]
options = json.loads((folder / "visual" / "preprocess_cfg.json").read_text())
pad = json.loads((folder / "textual" / "tokenizer_config.json").read_text())["pad_token"]
length = text_config.get("context_length", 77)
tokenizer = Tokenizer.from_file(str(folder / "textual" / "tokenizer.json"))
tokenizer.enable_padding(length=length, pad_token=pad, pad_id=tokenizer.token_to_id(pad))
tokenizer.enable_truncation(max_length=length)
size = options["size"][0]
image = Image.open(os.environ["IMAGE"]).convert("RGB")
assert image.size == (size, size) and options["interpolation"] == "bicubic"
mean, std = (np.array(options[key], np.float32) for key in ("mean", "std"))
pixels = (np.asarray(image, np.float32) / 255 - mean) / std
def run(part, **given):
    return onnxruntime.InferenceSession(str(folder / part / "model.onnx")).run(None, given)[0][0]
image = run("visual", image=pixels.transpose(2, 0, 1)[None])
tokens = [np.array([tokenizer.encode(t).ids], np.int32) for t in ("a boot", "Two  SANDALS, it's 12!")]
print(json.dumps([image.tolist(), *(run("textual", text=t).tolist() for t in tokens)]))
"""
TRANSFORMERS = """
import json, os
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor, pipeline
model, processor = CLIPModel.from_pretrained("."), CLIPProcessor.from_pretrained(".")
image = Image.open(os.environ["IMAGE"]).convert("RGB")
texts = ["a boot", "Two  SANDALS, it's 12!"]
given = processor(text=texts, images=image, return_tensors="pt", padding=True)
with torch.no_grad():
    output = model(**given)
classify = pipeline("zero-shot-image-classification", model=".")
options = {"candidate_labels": ["boot", "sandal"], "hypothesis_template": "a photo of a {}."}
best = classify(image, **options)[0]["label"]
print(json.dumps([best, output.image_embeds[0].tolist(), *output.text_embeds.tolist()]))
"""
NUMPY = """
import json
import numpy as np
classes = np.load("classes.npz", allow_pickle=False)
x = np.array(json.loads(open("features.json").read()))
logits = (classes["weights"] @ x + classes["biases"]) * classes["logit_scale"] / classes["temperature"]
exp = np.exp(logits - logits.max())
print(json.dumps([classes["names"].tolist(), (exp / exp.sum()).tolist()]))
"""


@pytest.fixture
def square(folder: Path, tmp_path: Path) -> Path:
    """Return an image of the model's own size, which every program takes as it is."""
    Image.open(folder / "boot" / "0.jpg").resize((32, 32)).save(tmp_path / "square.png")
    return tmp_path / "square.png"


def export(client: Client, folder: Path, format: Any) -> Path:
    with zipfile.ZipFile(client.models.export("shoes@prod", folder / "model.zip", format=format)) as archive:
        archive.extractall(folder / format)
    return folder / format


def answer(client: Client, image: Path, *names: str, **options: Any) -> dict[str, float]:
    result = client.classify(image, list(names) or None, model="shoes@prod", **options).results[0]
    predictions = result.predictions
    return {p.class_name: p.probability for p in predictions}


def features(neighbours: Neighbours, client: Client, image: Path, *texts: str) -> list[list[float]]:
    """Return the features of the image and the texts, by the service."""
    given = ["data:image/png;base64," + base64.b64encode(image.read_bytes()).decode(), *texts]
    sent = {"model": "shoes@prod", "input": given}
    headers = {"Authorization": f"Bearer {neighbours.key}"}
    response = httpx.post(f"{neighbours.url}/v1/embeddings", json=sent, headers=headers, timeout=600)
    return [row["embedding"] for row in response.raise_for_status().json()["data"]]


def test_the_classifier_in_onnxruntime(
    neighbours: Neighbours, client: Client, square: Path, tmp_path: Path
) -> None:
    folder = export(client, tmp_path, "classifier")
    names, *rows = neighbours.python(CLASSIFIER, folder, square)
    for row in rows:
        assert dict(zip(names, row, strict=True)) == pytest.approx(answer(client, square), abs=1e-5)


@pytest.mark.parametrize("names", [("sandal", "oak", "boot"), ("oak", "elm"), ("sandal", "Boot")])
def test_other_names_and_another_alpha(
    neighbours: Neighbours, client: Client, square: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    asked = {"params": {"format": "classifier", "names": names, "alpha": 0.7}, "timeout": 600}
    headers = {"Authorization": f"Bearer {neighbours.key}"}
    response = httpx.get(f"{neighbours.url}/models/shoes@prod/export", headers=headers, **asked)
    with zipfile.ZipFile(io.BytesIO(response.raise_for_status().content)) as archive:
        archive.extractall(tmp_path)
    found, row, _ = neighbours.python(CLASSIFIER, tmp_path, square)
    expected = answer(client, square, *names, alpha=0.7)
    assert dict(zip(found, row, strict=True)) == pytest.approx(expected, abs=1e-5)
    asked["params"]["format"] = "delta"
    refused = httpx.get(f"{neighbours.url}/models/shoes@prod/export", headers=headers, **asked)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_class_names")


@pytest.mark.parametrize("format", ["open_clip", "classifier"])
def test_the_classes_in_numpy(
    neighbours: Neighbours, client: Client, square: Path, tmp_path: Path, format: str
) -> None:
    folder = export(client, tmp_path, format)
    (folder / "features.json").write_text(json.dumps(features(neighbours, client, square)[0]))
    names, row = neighbours.python(NUMPY, folder)
    assert dict(zip(names, row, strict=True)) == pytest.approx(answer(client, square), abs=1e-5)


def test_the_steps_of_immich(neighbours: Neighbours, client: Client, square: Path, tmp_path: Path) -> None:
    exported = export(client, tmp_path, "immich")
    said = neighbours.python(IMMICH, exported, square)
    expected = features(neighbours, client, square, "a boot", "Two  SANDALS, it's 12!")
    for ours, theirs in zip(expected, said, strict=True):
        assert sum(a * b for a, b in zip(ours, theirs, strict=True)) >= 0.9999
    [model] = (exported / "clip").iterdir()
    files = {path.relative_to(model): path.read_bytes() for path in model.rglob("*.*") if path.is_file()}
    plain = {path: data for path, data in files.items() if path.parts[0] != "v2"}
    assert {path: files[Path("v2") / path] for path in plain} == plain
    assert len(files) == 2 * len(plain) > 8


def test_transformers(neighbours: Neighbours, client: Client, square: Path, tmp_path: Path) -> None:
    """They are packages of the server, too, and large: this Python has them."""
    folder = export(client, tmp_path, "transformers")
    environment = {"HF_HUB_OFFLINE": "1", "IMAGE": str(square), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", TRANSFORMERS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    best, *said = json.loads(done.stdout)
    expected = features(neighbours, client, square, "a boot", "Two  SANDALS, it's 12!")
    for ours, theirs in zip(expected, said, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)
    options = {"templates": ["a photo of a {}."], "new_class_balance": 0}
    result = client.classify(square, CLASSES, model="shoes@prod", **options).results[0]
    assert best == result.predictions[0].class_name
