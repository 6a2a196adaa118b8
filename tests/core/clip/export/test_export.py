"""Exports, loaded in a fresh process that has only open_clip, onnxruntime and the folder."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.clip.export.formats import onnx
from core.clip.export.formats.classes import ModelExport
from core.clip.export.model_card import (
    LOAD_DELTA,
    UNKNOWN_LICENCE,
    ModelInfo,
    licence_of,
    model_card,
)
from core.clip.export.onnx_graphs import OnnxDiffers
from core.clip.export.open_clip_folder import relocated, write_open_clip_folder
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.weights.delta import Delta
from core.clip.weights.files import Weights
from tests.api.serving.adapted import moved

SENTENCES = ["a photo of a red fox.", "Ein Bild, das niemand kennt: Straße", "a"]
ABOUT = ModelInfo(
    id="mdl_x",
    name="shoes",
    backbone="starter",
    backbone_sha256="0" * 64,
    image_size=32,
    alpha=0.5,
    classes=["red fox", "a *star* | `x`"],
    templates=["a photo of a {}."],
    prompts={"red fox": ["a vixen"]},
    delta_format="4bit",
    metrics=None,
)
FRESH = """
import sys, torch, numpy as np
from PIL import Image
from safetensors.torch import save_file
import torch.nn.functional as F
folder, kind, images = sys.argv[1], sys.argv[2], sys.argv[3:-1]
sentences = __SENTENCES__
if kind == "readme":
    import os
    os.chdir(folder)
    exec(open("README.md").read().split("```python")[1].split("```")[0])
else:
    import open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + folder)
    tokenizer = open_clip.get_tokenizer("local-dir:" + folder)
    model.eval()
pixels = torch.stack([preprocess(Image.open(p).convert("RGB")) for p in images])
tokens = tokenizer(sentences)
if kind == "onnx":
    import onnxruntime
    run = lambda name, **given: onnxruntime.InferenceSession(f"{folder}/{name}.onnx").run(None, given)[0]
    image, text = run("image", pixels=pixels.numpy()), run("text", tokens=tokens.numpy())
else:
    with torch.no_grad():
        image = F.normalize(model.encode_image(pixels), dim=-1).numpy()
        text = F.normalize(model.encode_text(tokens), dim=-1).numpy()
np.savez(sys.argv[-1], image=image, text=text)
"""


def fresh(folder: Path, kind: str, images: list[Path], out: Path) -> dict[str, np.ndarray]:
    """Return features of images and prompts, computed offline in a fresh process from another folder."""
    code = FRESH.replace("__SENTENCES__", repr(SENTENCES))
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder), kind, *map(str, images), str(out)],
        cwd=out.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    with np.load(out) as found:
        return dict(found)


def expected(backbone: Backbone, weights: Weights, alpha: float, images: list[Path]) -> dict[str, np.ndarray]:
    classifier = Classifier(backbone, weights, alpha)
    pixels = classifier.preprocess([Image.open(path).convert("RGB") for path in images])
    return {
        "image": classifier.image_features(pixels).numpy(),
        "text": classifier.text_features([[sentence] for sentence in SENTENCES]).numpy(),
    }


def exported(backbone: Backbone, folder: Path, weights: Weights, alpha: float) -> None:
    folder.mkdir()
    theta = weights.theta(tower_parameters(backbone.model), alpha)
    write_open_clip_folder(folder, backbone, with_parameters(backbone, theta), ABOUT)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for i, (width, height) in enumerate([(90, 60), (40, 70), (64, 64)]):
        smooth = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_open_clip_loads_the_folder(tiny: Backbone, images: list[Path], tmp_path: Path) -> None:
    weights = Weights(Delta("full", moved(tiny)))
    exported(tiny, tmp_path / "model", weights, 0.37)
    found = fresh(tmp_path / "model", "plain", images, tmp_path / "found.npz")
    for kind, features in expected(tiny, weights, 0.37, images).items():
        np.testing.assert_allclose(found[kind], features, rtol=0, atol=1e-5)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md", "clipcite.json", "open_clip_config.json", "open_clip_model.safetensors",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_starter_is_loaded_by_its_readme(starter: Backbone, drawings: Path, tmp_path: Path) -> None:
    """Real images, after moving the folder and without access to a hub."""
    weights = Weights(Delta("full", moved(starter, size=0.002)))
    exported(starter, tmp_path / "before", weights, 0.5)
    folder = (tmp_path / "before").rename(tmp_path / "after")
    assert str(tmp_path) not in (folder / "open_clip_config.json").read_text()
    real = [next((drawings / "test" / name).iterdir()) for name in ("bird", "tool")]
    found = fresh(folder, "readme", real, tmp_path / "found.npz")
    for kind, features in expected(starter, weights, 0.5, real).items():
        np.testing.assert_allclose(found[kind], features, rtol=0, atol=1e-5)
    again = fresh(folder, "plain", real, tmp_path / "again.npz")
    np.testing.assert_array_equal(again["image"], found["image"])


@pytest.mark.slow
def test_onnx_graphs_give_the_same(tiny: Backbone, images: list[Path], tmp_path: Path) -> None:
    weights = Weights(Delta("full", moved(tiny)))
    exported(tiny, tmp_path / "model", weights, 0.5)
    network = with_parameters(tiny, weights.theta(tower_parameters(tiny.model), 0.5))
    onnx.write(tmp_path / "model", ModelExport(tiny, network, ABOUT))
    found = fresh(tmp_path / "model", "onnx", images, tmp_path / "found.npz")
    for kind, features in expected(tiny, weights, 0.5, images).items():
        np.testing.assert_allclose(found[kind], features, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_graph_that_differs_is_not_handed_out(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.clip.export.onnx_graphs.MAX_DIFFERENCE", -1.0)
    with pytest.raises(OnnxDiffers, match="open_clip"):
        onnx.write(tmp_path, ModelExport(tiny, tiny.model, ABOUT))


def test_quick_gelu_and_the_image_size_are_in_the_configuration(tiny: Backbone) -> None:
    """Without quick_gelu in the configuration the folder loads without a warning and gives other features."""
    config = {
        "model_cfg": {
            "quick_gelu": True,
            "vision_cfg": {"timm_model_name": "x", "image_size": 160},
            "text_cfg": {"hf_model_name": "/home/me/x", "hf_tokenizer_name": "/home/me/x"},
        },
        "preprocess_cfg": {"mean": [0.5] * 3},
    }
    found = relocated(config)
    assert found["model_cfg"]["quick_gelu"] is True
    vision = config["model_cfg"]["vision_cfg"]  # type: ignore[index]
    assert found["model_cfg"]["vision_cfg"] == {**vision, "timm_model_pretrained": False}
    assert "/home/me" not in json.dumps(found)
    assert config["model_cfg"]["text_cfg"]["hf_model_name"] == "/home/me/x"  # type: ignore[index]
    assert tiny.open_clip_config["model_cfg"]["vision_cfg"]["image_size"] == tiny.image_size


def test_a_delta_has_the_features_of_the_training_images() -> None:
    card = model_card(ABOUT, LOAD_DELTA)
    assert "leaves out" not in card
    assert "computes from the training images" in card


def test_the_model_card_describes_the_model() -> None:
    card = model_card(ABOUT, "loading")
    assert "- red fox\n" in card
    assert r"a \*star\* \| \`x\`" in card  # Text from users must not be interpreted as Markdown.
    assert "- red fox: a vixen" in card
    assert "Apache-2.0" in card
    assert "The backbone is not CLIP but a small substitute" in card
    assert "not measured\n" in card
    early = model_card(replace(ABOUT, metrics={"verdict": "evaluating"}), "loading")
    assert "not measured yet" in early


def test_licences() -> None:
    assert licence_of("ViT-B-16/openai").startswith("MIT")
    assert licence_of("ViT-B-16/laion2b_s34b_b88k").startswith("MIT")
    assert licence_of("hf-hub:somebody/something") == UNKNOWN_LICENCE
