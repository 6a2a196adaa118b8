"""Small random networks of each family, from a hub to a trained model that open_clip loads."""

import json
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from api.models.archive import inspect_folder, read_weights
from clipcite.types.images import Image as LabelledImage
from core.clip.config import resolve_config
from core.clip.errors import InvalidConfig
from core.clip.export.model_card import ModelInfo
from core.clip.export.open_clip_folder import write_open_clip_folder
from core.clip.inference.classifier import Classifier
from core.clip.models import backbones
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.download import download
from core.clip.models.features import encode_tokens
from core.clip.pipeline import adapt
from core.clip.weights.files import Weights
from tests.core.clip.families import SMALL, write_repository
from tests.hub import Hub

ABOUT = ModelInfo(
    id="mdl_x",
    name=None,
    backbone="hf-hub:tests/small",
    backbone_sha256="0" * 64,
    image_size=32,
    alpha=0.5,
    classes=["red fox", "cat"],
    templates=["a photo of a {}."],
    prompts={},
    delta_format="full",
    metrics=None,
)
SENTENCES = ["a cat", "a photo of a red fox in the snow, and more.", "猫"]
NAMES = ("red fox", "cat")


@dataclass(frozen=True)
class Case:
    family: str
    backbone: Backbone
    repository: Path


@pytest.fixture(scope="module", params=SMALL)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    repository = write_repository(folder / "repository", *SMALL[request.param])
    return Case(request.param, load_backbone(f"local-dir:{repository}", cache=folder), repository)


def noise(seed: int, side: int = 70) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side + 20, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def features(model: nn.Module, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        image, text = model.encode_image(pixels), model.encode_text(tokens)  # type: ignore[operator]
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


@pytest.mark.slow
def test_it_is_downloaded_and_answers_as_in_open_clip(hub: Hub, case: Case, tmp_path: Path) -> None:
    """open_clip downloads the same repository on its own."""
    hub.add("tests/small", case.repository)
    hub.add("timm/ViT-B-16-SigLIP2", case.repository)
    name = "hf-hub:tests/small"
    ours = load_backbone(name, cache=tmp_path / "ours")
    assert ours.sha256 == case.backbone.sha256
    theirs, _, preprocess = open_clip.create_model_and_transforms(name, cache_dir=str(tmp_path / "theirs"))
    tokenizer = open_clip.get_tokenizer(name, cache_dir=str(tmp_path / "theirs"))
    pixels = preprocess(noise(0))[None]
    assert torch.equal(ours.preprocess(noise(0))[None], pixels)
    image, text = features(theirs.eval(), pixels, tokenizer(SENTENCES))
    own_image, own_text = features(ours.model, pixels, ours.tokenize(SENTENCES))
    assert torch.equal(image, own_image)
    assert torch.allclose(text, own_text, atol=1e-6)


def test_a_folder_that_was_replaced_has_its_new_tokenizer(tmp_path: Path) -> None:
    lengths = []
    for family in ("clip", "siglip2"):
        shutil.rmtree(tmp_path / "backbone", ignore_errors=True)
        write_repository(tmp_path / "backbone", *SMALL[family])
        backbone = load_backbone(f"local-dir:{tmp_path / 'backbone'}", cache=tmp_path)
        lengths.append(backbone.tokenizer(list(SENTENCES)).shape[1])
    assert lengths == [77, 64]


def test_a_prompt_has_the_same_features_beside_any_other(case: Case) -> None:
    """Padding is cut off only where the text tower masks it."""
    together = encode_tokens(case.backbone.model, case.backbone.tokenize(SENTENCES))
    alone = torch.cat([encode_tokens(case.backbone.model, case.backbone.tokenize([s])) for s in SENTENCES])
    assert torch.allclose(together, alone, atol=1e-6)
    assert len({tuple(row.tolist()) for row in together}) == len(SENTENCES)


def test_temperature_and_bias_are_not_trained(case: Case) -> None:
    names = {name for name, _ in case.backbone.model.named_parameters()} - set(
        tower_parameters(case.backbone.model)
    )
    assert names == ({"logit_scale", "logit_bias"} if case.family == "siglip2" else {"logit_scale"})
    assert case.backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def trained(case: Case) -> Weights:
    shots = [LabelledImage(png(noise(10 * c + i)), name) for c, name in enumerate(NAMES) for i in range(3)]
    settings = {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32", "delta_format": "full"}
    config = resolve_config(backbone=case.backbone.name, evaluate="none", **settings)
    return adapt(case.backbone, shots, config).weights


def test_probabilities_are_shares_among_the_classes(case: Case) -> None:
    """A bias that all pairs of image and text share, such as SigLIP's, cancels out."""
    classifier = Classifier(case.backbone)
    scores = classifier.classify([noise(0)], [[name] for name in NAMES])
    logits = case.backbone.logit_scale * scores.similarities
    bias = getattr(case.backbone.model, "logit_bias", None)
    assert torch.allclose(scores.probabilities, (logits + (0.0 if bias is None else bias)).softmax(dim=-1))
    assert scores.probabilities.sum().item() == pytest.approx(1)


def test_a_trained_model_is_exported_loaded_and_imported(case: Case, tmp_path: Path) -> None:
    weights = trained(case)
    theta_0 = tower_parameters(case.backbone.model)
    theta = weights.theta(theta_0, 0.5)
    assert any(not torch.equal(theta[name], theta_0[name]) for name in theta)
    model = with_parameters(case.backbone, theta)
    write_open_clip_folder(tmp_path, case.backbone, model, ABOUT)
    moved = shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{moved}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{moved}")
    pixels = preprocess(noise(0))[None]
    ours = features(model, case.backbone.preprocess(noise(0))[None], case.backbone.tokenize(SENTENCES))
    for own, other in zip(ours, features(theirs.eval(), pixels, tokenizer(SENTENCES)), strict=True):
        assert torch.allclose(own, other, atol=1e-6)
    frozen = {n: p for n, p in model.named_parameters() if n not in theta_0}
    assert all(torch.equal(theirs.get_parameter(name), frozen[name]) for name in frozen)
    imported = read_weights(moved, inspect_folder(moved), case.backbone, "full", classes=2)
    back = imported.theta(theta_0, 1.0)
    assert all(torch.equal(back[name], theta[name]) for name in theta)


@pytest.mark.parametrize(
    ("declared", "requested"),
    [(160, 64), (64, 64), (96, None)],
    ids=["by a job", "of a model", "by the backbone"],
)
def test_a_size_that_open_clip_could_not_load_is_refused(
    declared: int, requested: int | None, tmp_path: Path
) -> None:
    """test_vit2 is built for 160 pixels. Its export at another size would not load."""
    config, preprocess = SMALL["siglip2"]
    config = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": declared}}
    repository = write_repository(tmp_path / "repository", config, preprocess)
    with pytest.raises(
        InvalidConfig, match=f"images of {requested or declared} pixels.* built for 160"
    ) as error:
        load_backbone(f"local-dir:{repository}", cache=tmp_path, image_size=requested)
    assert error.value.field == "image_size"


@pytest.mark.parametrize("family", ["clip", "mobileclip"])
def test_another_size_is_exported_where_open_clip_can_load_it(family: str, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", *SMALL[family])
    backbone = load_backbone(f"local-dir:{repository}", cache=tmp_path, image_size=96)
    exported = tmp_path / "exported"
    exported.mkdir()
    write_open_clip_folder(exported, backbone, backbone.model, ABOUT)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{exported}")
    pixels = preprocess(noise(0, 120))[None]
    assert pixels.shape[-1] == 96
    image, _ = features(theirs.eval(), pixels, backbone.tokenize(SENTENCES))
    own, _ = features(backbone.model, backbone.preprocess(noise(0, 120))[None], backbone.tokenize(SENTENCES))
    assert torch.allclose(own, image, atol=1e-6)


def test_a_name_of_open_clip_has_its_activation_and_preprocessing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's weights need QuickGELU, although the architecture's configuration does not say so."""
    config, preprocess = SMALL["clip"]
    hub.add(
        "timm/vit_base_patch32_clip_224.openai", write_repository(tmp_path / "repository", config, preprocess)
    )
    small = {key: value for key, value in config.items() if key != "quick_gelu"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", small)
    name, cache = "ViT-B-32/openai", tmp_path / "cache"
    with backbones.building(backbones.folder_of(name, cache)) as partial:  # here, with the small network
        backbones.publish(partial, name, cache, download(name, partial))
    backbone = load_backbone(name, cache=cache)
    direct = load_backbone(f"local-dir:{tmp_path / 'repository'}", cache=tmp_path)
    assert backbone.sha256 == direct.sha256
    assert backbone.mean == pytest.approx(preprocess["mean"])
    pixels = backbone.preprocess(noise(0))[None]
    with torch.no_grad():
        assert torch.equal(backbone.model.encode_image(pixels), direct.model.encode_image(pixels))
        plain = json.loads((tmp_path / "repository" / "open_clip_config.json").read_text())
        del plain["model_cfg"]["quick_gelu"]
        (tmp_path / "repository" / "open_clip_config.json").write_text(json.dumps(plain))
        other = load_backbone(f"local-dir:{tmp_path / 'repository'}", cache=tmp_path)
        assert not torch.equal(backbone.model.encode_image(pixels), other.model.encode_image(pixels))
