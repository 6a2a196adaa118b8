"""CLIPModel folders of `transformers` give the features that `transformers` computes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from core.clip.errors import BackboneUnavailable
from core.clip.models.backbone import load_backbone
from tests.core.clip.families import CLIP, write_transformers_repository
from tests.hub import Hub

SENTENCES = ["a photo of a red fox.", "a cat"]


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_features_are_those_of_transformers(tmp_path: Path, activation: str) -> None:
    theirs = write_transformers_repository(tmp_path / "model", hidden_act=activation)
    ours = load_backbone(f"local-dir:{tmp_path / 'model'}", cache=tmp_path / "cache")
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    pixels, tokens = ours.preprocess(Image.fromarray(noise))[None], ours.tokenize(SENTENCES)
    with torch.no_grad():
        image = theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)
        text = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
        assert torch.allclose(F.normalize(image), F.normalize(ours.model.encode_image(pixels)), atol=1e-6)
        assert torch.allclose(F.normalize(text), F.normalize(ours.model.encode_text(tokens)), atol=1e-6)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    assert ours.mean == tuple(CLIP["mean"])


def test_the_folder_stays_unchanged_and_is_converted_once(tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    write_transformers_repository(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first = load_backbone(f"local-dir:{folder}", cache=cache)
    converted = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert load_backbone(f"local-dir:{folder}", cache=cache).sha256 == first.sha256
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == converted


def test_changed_weights_are_converted_again(tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    write_transformers_repository(folder)
    first = load_backbone(f"local-dir:{folder}", cache=cache)
    state = {name: tensor + 1 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert load_backbone(f"local-dir:{folder}", cache=cache).sha256 != first.sha256


@pytest.mark.slow
def test_a_repository_of_transformers_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    write_transformers_repository(tmp_path / "model")
    hub.add("openai/clip-small", tmp_path / "model")
    ours = load_backbone("hf-hub:openai/clip-small", cache=tmp_path / "cache")
    direct = load_backbone(f"local-dir:{tmp_path / 'model'}", cache=tmp_path / "cache")
    assert ours.sha256 == direct.sha256
    requests = len(hub.requests)
    load_backbone("hf-hub:openai/clip-small", cache=tmp_path / "cache")
    assert len(hub.requests) == requests


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "siglip"}, "model_type is 'siglip'"),
        ({"text_config": {"vocab_size": 100}}, "the vocabulary has 100 tokens"),
        ({"text_config": {"hidden_act": "relu"}}, "the activations are"),
    ],
)
def test_another_kind_of_model(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    write_transformers_repository(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BackboneUnavailable, match="not a CLIPModel that open_clip can hold") as caught:
        load_backbone(f"local-dir:{tmp_path / 'model'}", cache=tmp_path / "cache")
    assert reason in caught.value.detail
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_damaged_weights(tmp_path: Path) -> None:
    write_transformers_repository(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BackboneUnavailable, match="not a CLIPModel that open_clip can hold"):
        load_backbone(f"local-dir:{tmp_path / 'model'}", cache=tmp_path / "cache")
