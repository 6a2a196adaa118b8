import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from core.clip.errors import BackboneUnavailable, InvalidConfig, UnknownBackbone
from core.clip.models import backbones, tokenizer
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from tests.core.clip.families import SMALL, write_repository
from tests.core.clip.recorder import fingerprint, same_bits
from tests.hub import Hub


def test_a_folder_is_loaded_as_open_clip_does(tiny: Backbone, tiny_folder: Path) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_folder}")
    assert same_bits(dict(model.state_dict()), dict(tiny.model.state_dict()))
    assert same_bits(
        dict(sorted(load_file(tiny_folder / "open_clip_model.safetensors").items())),
        dict(sorted(tiny.model.state_dict().items())),
    )
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    assert torch.equal(tiny.preprocess(image), preprocess(image))
    expected = open_clip.get_tokenizer(f"local-dir:{tiny_folder}")(["a cat", "猫"])
    assert torch.equal(tiny.tokenize(["a cat", "猫"]), expected)


def test_the_tokenizer_keeps_a_limited_number_of_words(
    tiny: Backbone, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tiny.tokenizer.cache
    monkeypatch.setattr(tokenizer, "MAX_WORDS", len(kept) + 2)
    prompts = ["quokka wombat numbat bilby", "x" * 60, "quokka"]
    expected = open_clip.get_tokenizer(f"local-dir:{tiny_folder}")(prompts)
    assert torch.equal(tiny.tokenizer(prompts), expected)
    assert len(kept) == tokenizer.MAX_WORDS
    monkeypatch.undo()
    tiny.tokenizer(["y" * 60])
    assert max(map(len, kept)) <= tokenizer.MAX_WORD_LENGTH


def test_a_backbone_is_frozen_in_eval_mode(tiny: Backbone) -> None:
    assert not any(module.training for module in tiny.model.modules())
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("size", [16, 48, 64])
def test_another_image_size(tiny: Backbone, tiny_folder: Path, size: int) -> None:
    resized = load_backbone(tiny.name, cache=tiny_folder.parent, image_size=size)
    assert resized.image_size == size
    pixels = resized.preprocess(Image.new("RGB", (100, 70), "red"))
    assert pixels.shape == (3, size, size)
    assert resized.model.encode_image(pixels[None]).shape == (1, 32)
    positions = resized.model.get_parameter("visual.positional_embedding")
    assert positions.shape == ((size // 8) ** 2 + 1, 64)
    stock = tiny.model.get_parameter("visual.positional_embedding")
    assert torch.equal(positions[0], stock[0])  # The position of the class token.
    # Interpolated, not drawn again.
    assert positions[1:].mean(dim=0).sub(stock[1:].mean(dim=0)).abs().max() < 0.02
    same = {n: p for n, p in resized.model.named_parameters() if n != "visual.positional_embedding"}
    assert same_bits(same, {n: tiny.model.get_parameter(n) for n in same})
    assert resized.sha256 != tiny.sha256


def test_the_hash_is_of_the_weights(tiny: Backbone, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    copy = load_backbone(f"local-dir:{tmp_path / 'copy'}", cache=tmp_path)
    assert copy.sha256 == tiny.sha256
    path = tmp_path / "copy" / "open_clip_model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}  # the file is rewritten
    for name in ("visual.proj", "logit_scale"):
        changed = {n: t.clone() for n, t in state.items()}
        changed[name].flatten()[-1].mul_(1 + 2e-7)
        save_file(changed, path)
        assert load_backbone(copy.name, cache=tmp_path).sha256 != tiny.sha256
    save_file(state, path)
    assert load_backbone(copy.name, cache=tmp_path).sha256 == tiny.sha256


def test_with_parameters_is_a_copy_with_other_towers(tiny: Backbone) -> None:
    before = fingerprint(tiny.model)
    theta = {name: torch.full_like(p, 0.5) for name, p in tower_parameters(tiny.model).items()}
    model = with_parameters(tiny, theta)
    assert same_bits(dict(tower_parameters(model)), theta)
    assert torch.equal(model.get_parameter("logit_scale"), tiny.model.get_parameter("logit_scale"))
    assert same_bits(dict(model.named_buffers()), dict(tiny.model.named_buffers()))
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.get_parameter("visual.proj").data_ptr() == theta["visual.proj"].data_ptr()
    assert fingerprint(tiny.model) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "starters",
        "ViT-B-16",
        "ViT-B-16/",
        "ViT-B-16/nonsense",
        "NoSuchModel/openai",
        "/openai",
        "../../etc/passwd",
        "local-dir:",
        "local-dir:/nowhere/at/all",
        "hf-hub:",
    ],
)
def test_unknown_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownBackbone) as caught:
        load_backbone(name, cache=tmp_path)
    assert caught.value.status == 422
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_half_a_folder_is_unknown(tiny_folder: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(tiny_folder, tmp_path / "half")
    (tmp_path / "half" / missing).unlink()
    # A pickle does not replace the safetensors file.
    torch.save({}, tmp_path / "half" / "open_clip_pytorch_model.bin")
    with pytest.raises(UnknownBackbone, match=missing):
        load_backbone(f"local-dir:{tmp_path / 'half'}", cache=tmp_path)


def code_of_the_tokenizer(folder: Path) -> None:
    """Let the configuration of the tokenizer name the folder's Python file, and allow it to run."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    described = json.loads((folder / "tokenizer_config.json").read_text())
    described |= {"auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]}, "tokenizer_class": "Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


def code_of_the_text_tower(folder: Path) -> None:
    """Let the text tower be one that only the folder's Python file knows."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "any/name"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    shape = {"model_type": "ours", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(shape))


@pytest.mark.parametrize("arm", [code_of_the_tokenizer, code_of_the_text_tower])
def test_no_load_of_a_folder_runs_its_code(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: Callable[[Path], None]
) -> None:
    folder = write_repository(tmp_path / "evil", *SMALL["siglip2"])
    arm(folder)
    marker = tmp_path / "ran"
    (folder / "code.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import PretrainedConfig as Config, PreTrainedTokenizerFast as Tokenizer\n"
    )
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")  # transformers may ask
    for name in ("tests/evil", "timm/ViT-B-16-SigLIP2", "any/name"):
        hub.add(name, folder)
    for load in (
        lambda: load_backbone(f"local-dir:{folder}", cache=tmp_path / "cache"),
        lambda: load_backbone("hf-hub:tests/evil", cache=tmp_path / "cache"),
        lambda: backbones.import_folder(folder, tmp_path / "cache", "hf-hub:tests/evil2"),
    ):
        with pytest.raises(BackboneUnavailable, match="would run code of its folder"):
            load()
        assert not marker.exists()


@pytest.mark.parametrize("kind", ["truncated", "garbage", "config", "other shapes", "missing tensor"])
def test_a_damaged_folder_is_unavailable(tiny_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_folder, folder)
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif kind == "garbage":
        weights.write_bytes(b"x" * 1000)
    elif kind == "config":
        config.write_text("{")
    elif kind == "other shapes":
        content = json.loads(config.read_text())
        content["model_cfg"]["embed_dim"] = 16
        config.write_text(json.dumps(content))
    else:
        state = load_file(weights)
        del state["visual.proj"]
        save_file(state, weights)
    with pytest.raises(
        BackboneUnavailable, match=r"can't be loaded|is not a configuration of open_clip"
    ) as caught:
        load_backbone(f"local-dir:{folder}", cache=tmp_path)
    assert caught.value.status == 503


@pytest.mark.slow
def test_an_uncached_hub_name_is_unavailable(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("hf-hub:tests/nothing", "ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(BackboneUnavailable, match="HF_HUB_OFFLINE"):
            load_backbone(name, cache=tmp_path)
    assert hub.requests == []


@pytest.mark.slow
def test_weights_that_are_only_a_pickle_are_not_loaded(hub: Hub, tmp_path: Path) -> None:
    """Tags whose repository has only a pickle, and tags that are the URL of one."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "open_clip_pytorch_model.bin").write_bytes(b"not even a pickle")
    hub.add("timm/resnet50_clip.yfcc15m", tmp_path / "repository")
    with pytest.raises(
        BackboneUnavailable,
        match=r"only available as open_clip_pytorch_model\.bin\. For safety only safetensors",
    ):
        load_backbone("RN50/yfcc15m", cache=tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"url": "https://example.org/a/yfcc15m.pt"})
        with pytest.raises(UnknownBackbone, match=r"only available as yfcc15m\.pt"):
            load_backbone("RN50/yfcc15m", cache=tmp_path / "cache")


def test_an_input_has_at_most_twice_its_own_side(tiny_folder: Path, tmp_path: Path) -> None:
    name = f"local-dir:{tiny_folder}"
    assert load_backbone(name, cache=tmp_path, image_size=448).image_size == 448
    with pytest.raises(InvalidConfig, match=r"at most 448 .* whose own is 32"):
        load_backbone(name, cache=tmp_path, image_size=456)
