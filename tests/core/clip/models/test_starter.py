"""Assembly of the starter backbone from its two packages."""

import importlib.util
import os
import re
import shutil
import stat
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from core.clip.errors import BackboneUnavailable
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.starter import FOLDER, IMAGE_FILE, IMAGE_PACKAGE, TEXT_PACKAGE, starter_folder
from tests.conftest import Assembled
from tests.core.clip.recorder import same_bits

pytestmark = pytest.mark.slow


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    """Return the image package's own file."""
    tensors: dict[str, Tensor] = torch.load(package(IMAGE_PACKAGE) / IMAGE_FILE, weights_only=True)
    return tensors


def test_two_processes_at_once_end_with_one_folder(assembled: Assembled) -> None:
    cache, results = assembled
    assert results == [f"{cache / FOLDER}\n"] * 2
    assert {path.name for path in cache.iterdir()} == {FOLDER, f".{FOLDER}.lock"}
    names = {path.name for path in (cache / FOLDER).iterdir()}
    assert names == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    }


def test_others_may_read_the_folder(assembled: Assembled) -> None:
    folder = assembled[0] / FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "open_clip_model.safetensors").stat().st_mode) == 0o644


def test_a_second_call_assembles_nothing(assembled: Assembled) -> None:
    cache = assembled[0]
    before = {path: path.stat().st_mtime_ns for path in (cache / FOLDER).iterdir()}
    assert starter_folder(cache) == cache / FOLDER
    assert {path: path.stat().st_mtime_ns for path in (cache / FOLDER).iterdir()} == before


def test_the_folder_survives_a_move(starter: Backbone, assembled: Assembled, tmp_path: Path) -> None:
    """open_clip's configuration still names the old place."""
    shutil.copytree(assembled[0] / FOLDER, tmp_path / FOLDER, copy_function=os.link)
    config = tmp_path / FOLDER / "open_clip_config.json"
    content = config.read_text()
    config.unlink()
    assert str(assembled[0]) in content
    config.write_text(content.replace(str(assembled[0]), "/gone"))
    again = load_backbone("starter", cache=tmp_path, image_size=160)
    assert again.sha256 == starter.sha256
    assert torch.equal(again.tokenize(["a red fox"]), starter.tokenize(["a red fox"]))


# --- checksums


def fake_package(name: str, relative: str, into: Path) -> Path:
    """Create a package of that name, found before the real one, with one file copied. Return the copy."""
    real, fake = package(name), into / name
    shutil.copytree(real, fake, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    copy = fake / relative
    copy.unlink()
    shutil.copy(real / relative, copy)
    return copy


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        (IMAGE_PACKAGE, IMAGE_FILE),
        (TEXT_PACKAGE, "model/model.safetensors"),
        (TEXT_PACKAGE, "model/tokenizer.json"),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_other_packages_are_refused(
    name: str, relative: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = fake_package(name, relative, tmp_path / "packages")
    if damage == "missing":
        copy.unlink()
    else:
        with copy.open("r+b") as file:
            file.seek(copy.stat().st_size // 2)
            (byte,) = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    cache = tmp_path / "cache"
    with pytest.raises(BackboneUnavailable, match=re.escape(copy.name)) as caught:
        starter_folder(cache)
    assert caught.value.status == 503
    assert [path for path in cache.iterdir() if path.is_dir()] == []  # No partial folder remains.


@pytest.mark.parametrize("name", [IMAGE_PACKAGE, TEXT_PACKAGE])
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == name else real(n, *a))
    with pytest.raises(BackboneUnavailable, match=name.replace("_", "-")):
        load_backbone("starter", cache=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


# --- contents


def test_the_image_tower_is_the_packages(starter: Backbone, imagenet: dict[str, Tensor]) -> None:
    """The tensors are equal and in the same order: 245 of the trunk, then the 2 of the dropped classifier."""
    ours, theirs = (
        [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
        for state in (starter.model.get_submodule("visual.trunk").state_dict(), imagenet)
    )
    assert len(theirs) == 247
    assert [tuple(tensor.shape) for tensor in theirs[-2:]] == [(1000, 1280), (1000,)]
    theirs = theirs[:-2]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_the_text_tower_is_the_packages(starter: Backbone) -> None:
    theirs = load_file(package(TEXT_PACKAGE) / "model/model.safetensors")
    ours = starter.model.get_submodule("text.transformer").state_dict()
    for name, tensor in ours.items():
        if name in theirs:
            assert torch.equal(tensor, theirs[name])
    assert {name for name in theirs if not name.startswith("pooler.")} - set(ours) <= {
        "embeddings.position_ids"
    }


def test_the_projection_is_the_ridge_regression(starter: Backbone, imagenet: dict[str, Tensor]) -> None:
    """A = Wᵀ T (TᵀT + I)⁻¹ minimises |W A' - T|² in the dual of the closed form.

    The test checks the normal equation A (TᵀT + I) = Wᵀ T, with prompts encoded one by one.
    """
    names = open_clip.IMAGENET_CLASSNAMES
    classifier = next(t for t in imagenet.values() if t.shape == (1000, 1280)).double()
    t = build_zero_shot_classifier(
        starter.model, starter.tokenize, [[f"a photo of a {name}."] for name in names]
    ).double()
    w, t = classifier - classifier.mean(dim=0), t - t.mean(dim=0)
    a = starter.model.get_parameter("visual.head.proj.weight").T.double()  # [1280, 384]
    left, right = a @ (t.T @ t + torch.eye(384)), w.T @ t
    assert (left - right).norm() / right.norm() < 1e-4
    assert starter.logit_scale == pytest.approx(40, rel=1e-5)


def test_open_clip_loads_the_folder_by_itself(starter: Backbone, assembled: Assembled) -> None:
    name = f"local-dir:{assembled[0] / FOLDER}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    assert same_bits(dict(model.state_dict()), dict(starter.model.state_dict()))
    image = Image.effect_noise((300, 200), 80).convert("RGB")
    assert preprocess(image).shape == (3, 224, 224)
    assert torch.equal(preprocess(image), load_backbone("starter", cache=assembled[0]).preprocess(image))
    prompts = ["a photo of a cat.", "a photo of a very large dog."]
    tokens = open_clip.get_tokenizer(name)(prompts)
    with torch.no_grad():
        theirs = F.normalize(model.eval().encode_text(tokens), dim=-1)
    ours = build_zero_shot_classifier(starter.model, starter.tokenize, [[text] for text in prompts])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_images_are_cut_not_squashed(starter: Backbone) -> None:
    """After scaling the shortest side and cropping, the outer thirds of a long image are gone."""
    image = Image.new("RGB", (480, 160), "black")
    image.paste((255, 255, 255), (160, 0, 320, 160))
    pixels = starter.preprocess(image)
    assert pixels.shape == (3, 160, 160)
    assert (pixels[:, :, 4:-4] == 1).all()  # White with mean = std = 0.5.


def test_trimmed_padding_gives_the_same_features(starter: Backbone, assembled: Assembled) -> None:
    full = open_clip.get_tokenizer(f"local-dir:{assembled[0] / FOLDER}")
    prompts = [
        "cat",
        "a photo of a dog.",
        "",
        "a long sentence " * 10,
        "a very long one " * 100,
        "猫 👩‍👩‍👧 {}",
    ]
    for chunk in (prompts, prompts[:2], prompts[2:3]):
        trimmed, padded = starter.tokenize(chunk), full(chunk)
        used = int((padded != 0).sum(dim=1).max())
        assert trimmed.shape == (len(chunk), used)
        assert torch.equal(padded[:, :used], trimmed)
        with torch.no_grad():
            one, other = (F.normalize(starter.model.encode_text(t), dim=-1) for t in (trimmed, padded))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert starter.tokenize(prompts[:2]).shape[1] < full(prompts[:2]).shape[1] / 4
