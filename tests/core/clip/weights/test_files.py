import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from core.clip.config import resolve_config
from core.clip.errors import CorruptWeights, TrainingDiverged
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters
from core.clip.weights.delta import Delta, encode
from core.clip.weights.files import SHOT_LABELS, SHOTS, Weights, load_weights, save_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256, read_manifest
from core.clip.weights.support_set import SupportSet
from tests.core.clip.recorder import same_bits
from tests.core.clip.tiny import make_tiny_backbone

NAMES = ("猫", "👩‍👩‍👧 family", "Straße", 'a "quoted\\" {name}', "קפה")
CONFIG = resolve_config(prompts={"猫": ["ein Kätzchen"]}, templates=["Bild: {}"]).model_dump()


@pytest.fixture(scope="module")
def theta_1(tiny: Backbone) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    theta = {
        name: (p + torch.randn(p.shape, generator=generator) / 1000).detach()
        for name, p in tower_parameters(tiny.model).items()
    }
    theta["visual.ln_pre.bias"][0] = -0.0
    return theta


@pytest.fixture(scope="module")
def stored(
    tiny: Backbone, theta_1: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, Manifest]:
    folder = tmp_path_factory.mktemp("stored")
    manifest = save_weights(
        folder, Weights(Delta("full", theta_1)), backbone=tiny, class_names=NAMES, config=CONFIG
    )
    return (folder / WEIGHTS).read_bytes(), manifest


def crafted(theta: dict[str, Tensor], manifest: Manifest) -> tuple[bytes, Manifest]:
    """Write a file with these tensors and a manifest with the matching checksum."""
    data = save(theta)
    return data, replace(manifest, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def support(value: float) -> dict[str, Tensor]:
    """Return the tensors of a support set in which one number has this value."""
    features = torch.zeros(3, 2, 64, dtype=torch.float16)
    features[1, 1, 5] = value
    return {SHOTS: features, SHOT_LABELS: torch.tensor([0, 1])}


def test_weights_come_back_bit_for_bit(
    tiny: Backbone, theta_1: dict[str, Tensor], stored: tuple[bytes, Manifest]
) -> None:
    data, manifest = stored
    loaded = load_weights(data, manifest, tiny)
    assert same_bits(dict(sorted(loaded.delta.tensors.items())), dict(sorted(theta_1.items())))
    assert loaded.shots is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["theta_1", "shots"])
def test_non_finite_weights_are_never_written(
    tiny: Backbone, theta_1: dict[str, Tensor], tmp_path: Path, value: float, where: str
) -> None:
    theta, shots = dict(theta_1), SupportSet(torch.zeros(3, 5, 64), torch.zeros(5, dtype=torch.int64))
    if where == "theta_1":
        theta["visual.ln_pre.bias"] = torch.full_like(theta["visual.ln_pre.bias"], value)
    else:
        shots.features[1, 2, 3] = value
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        save_weights(
            tmp_path, Weights(Delta("full", theta), shots), backbone=tiny, class_names=NAMES, config=CONFIG
        )
    assert list(tmp_path.iterdir()) == []


def test_the_features_of_the_shots_come_back(
    tiny: Backbone, theta_1: dict[str, Tensor], tmp_path: Path
) -> None:
    features = torch.nn.functional.normalize(torch.randn(3, 5, 64), dim=-1)
    shots = SupportSet(features, torch.tensor([0, 0, 1, 1, 0]))
    weights = Weights(Delta("full", theta_1), shots)
    manifest = save_weights(tmp_path, weights, backbone=tiny, class_names=NAMES, config=CONFIG)
    loaded = load_weights((tmp_path / WEIGHTS).read_bytes(), manifest, tiny)
    assert loaded.delta.tensors.keys() == theta_1.keys()
    assert loaded.shots.labels.tolist() == [0, 0, 1, 1, 0]
    torch.testing.assert_close(loaded.shots.features.float(), features, rtol=1e-2, atol=1e-3)


def test_the_manifest_describes_the_weights(
    tiny: Backbone, theta_1: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = Weights(Delta("full", theta_1))
    manifest = save_weights(tmp_path, weights, backbone=tiny, class_names=NAMES, config=CONFIG)
    data = (tmp_path / WEIGHTS).read_bytes()
    assert manifest == Manifest(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        backbone=tiny.name,
        backbone_sha256=tiny.sha256,
        image_size=32,
        class_names=NAMES,
        config=CONFIG,
        delta_format="full",
        format=3,
    )
    assert manifest.sha256 == file_sha256(tmp_path / WEIGHTS)
    read = read_manifest((tmp_path / MANIFEST).read_bytes())
    assert read == manifest
    assert read.class_names == NAMES
    assert resolve_config(**read.config).model_dump() == CONFIG
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, WEIGHTS]


def test_views_and_parameters_are_saved_as_they_look(
    tiny: Backbone, theta_1: dict[str, Tensor], tmp_path: Path
) -> None:
    name = "visual.proj"
    theta = theta_1 | {name: torch.nn.Parameter(theta_1[name].T.contiguous().T)}
    assert not theta[name].is_contiguous()
    save_weights(tmp_path, Weights(Delta("full", theta)), backbone=tiny, class_names=NAMES, config=CONFIG)
    assert same_bits(load_file(tmp_path / WEIGHTS), dict(sorted(theta_1.items())))


def test_a_flipped_bit_is_found(tiny: Backbone, stored: tuple[bytes, Manifest]) -> None:
    """All of 60 flips are found, even in the header and at both ends."""
    data, manifest = stored
    dice = random.Random(11)
    places = [0, 9, len(data) - 1, *(dice.randrange(len(data)) for _ in range(57))]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << dice.randrange(8)
        with pytest.raises(CorruptWeights, match="SHA-256"):
            load_weights(bytes(damaged), manifest, tiny)


@pytest.mark.parametrize("keep", [0, 1, 8, 1000, -1])
def test_a_cut_file_is_found(tiny: Backbone, stored: tuple[bytes, Manifest], keep: int) -> None:
    data, manifest = stored
    with pytest.raises(CorruptWeights) as caught:
        load_weights(data[:keep], manifest, tiny)
    assert caught.value.status == 503
    # The same holds if the manifest was written for the truncated file.
    cut = replace(manifest, sha256=hashlib.sha256(data[:keep]).hexdigest())
    with pytest.raises(CorruptWeights, match="can't be read"):
        load_weights(data[:keep], cut, tiny)


def test_another_backbone_is_refused(stored: tuple[bytes, Manifest], tmp_path: Path) -> None:
    data, manifest = stored
    other = load_backbone(make_tiny_backbone(tmp_path / "other", seed=1), cache=tmp_path)
    with pytest.raises(CorruptWeights, match="installed weights of 'local-dir"):
        load_weights(data, manifest, other)


def test_a_pickle_is_never_read(tiny: Backbone, stored: tuple[bytes, Manifest], tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save({"a": torch.ones(1)}, path)
    data = path.read_bytes()
    manifest = replace(stored[1], sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(CorruptWeights, match="can't be read"):
        load_weights(data, manifest, tiny)


def fields(stored: tuple[bytes, Manifest], **changed: object) -> dict[str, object]:
    return {**asdict(stored[1]), **changed}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b'{"format": 3}', b'"x"']
)
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptWeights, match="manifest"):
        read_manifest(data)


def test_an_incomplete_manifest_is_refused(stored: tuple[bytes, Manifest]) -> None:
    for name in set(fields(stored)) - {"format"}:
        incomplete = {key: value for key, value in fields(stored).items() if key != name}
        with pytest.raises(CorruptWeights):
            read_manifest(json.dumps(incomplete).encode())
    with pytest.raises(CorruptWeights):
        read_manifest(json.dumps(fields(stored, more=1)).encode())
    with pytest.raises(CorruptWeights):
        read_manifest(json.dumps(fields(stored, class_names=None)).encode())
    assert read_manifest(json.dumps(fields(stored)).encode()) == stored[1]


@pytest.mark.parametrize("number", [1, 2, 4, "3", None])
def test_a_manifest_of_another_format_is_refused(stored: tuple[bytes, Manifest], number: object) -> None:
    with pytest.raises(CorruptWeights, match=f"format {number!r}; this version reads 3. Adapt again"):
        read_manifest(json.dumps(fields(stored, format=number)).encode())


def test_an_unknown_delta_format_is_refused(stored: tuple[bytes, Manifest]) -> None:
    with pytest.raises(CorruptWeights, match="stored as '1bit', which this version does not read"):
        read_manifest(json.dumps(fields(stored, delta_format="1bit")).encode())


@pytest.fixture(scope="module")
def packed(
    tiny: Backbone,
    theta_1: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Delta, bytes, Manifest]:
    folder = tmp_path_factory.mktemp("packed")
    delta = encode(tower_parameters(tiny.model), theta_1, "4bit")
    manifest = save_weights(folder, Weights(delta), backbone=tiny, class_names=NAMES, config=CONFIG)
    return delta, (folder / WEIGHTS).read_bytes(), manifest


def test_a_packed_delta_comes_back_bit_for_bit(
    tiny: Backbone, packed: tuple[Delta, bytes, Manifest], stored: tuple[bytes, Manifest]
) -> None:
    delta, data, manifest = packed
    loaded = load_weights(data, manifest, tiny)
    assert loaded.delta.kind == manifest.delta_format == delta.kind
    assert same_bits(dict(sorted(loaded.delta.tensors.items())), dict(sorted(delta.tensors.items())))
    assert len(data) < stored[1].bytes / 5


FULL: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop("visual.proj"), "fit"),
    "temperature": (lambda t: t.update(logit_scale=torch.ones(())), "fit"),
    "extra": (lambda t: t.update({"visual.extra": torch.ones(1)}), "fit"),
    "shape": (lambda t: t.update({"visual.proj": t["visual.proj"].T.contiguous()}), "fit"),
    "flat": (lambda t: t.update({"visual.proj": t["visual.proj"].flatten()}), "fit"),
    "nan": (lambda t: t["visual.proj"].__setitem__((3, 3), float("nan")), "finite"),
    "inf": (lambda t: t["text_projection"].__setitem__((0, 0), float("inf")), "finite"),
    "-inf": (lambda t: t["ln_final.bias"].__setitem__(31, -float("inf")), "finite"),
    "support set": (lambda t: t.update(support(float("nan"))), "finite"),
}
PACKED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop("words/visual.proj"), "fit"),
    "extra": (lambda t: t.update({"visual.proj": torch.zeros(64, 32)}), "fit"),
    "type": (lambda t: t.update({"words/visual.proj": t["words/visual.proj"].float()}), "fit"),
    "shape": (lambda t: t.update({"scale/visual.proj": t["scale/visual.proj"][:-1].clone()}), "fit"),
    "nan": (lambda t: t["scale/visual.proj"].__setitem__(3, float("nan")), "finite"),
}


@pytest.mark.parametrize(
    ("kind", "name"), [*(("full", name) for name in FULL), *(("packed", name) for name in PACKED)]
)
def test_other_tensors_are_refused(
    tiny: Backbone,
    theta_1: dict[str, Tensor],
    stored: tuple[bytes, Manifest],
    packed: tuple[Delta, bytes, Manifest],
    kind: str,
    name: str,
) -> None:
    given, manifest = (theta_1, stored[1]) if kind == "full" else (packed[0].tensors, packed[2])
    tensors = {name: tensor.clone() for name, tensor in given.items()}
    change, says = (FULL if kind == "full" else PACKED)[name]
    change(tensors)
    with pytest.raises(CorruptWeights, match=says):
        load_weights(*crafted(tensors, manifest), tiny)


def test_a_manifest_of_another_delta_format_does_not_fit(
    tiny: Backbone, packed: tuple[Delta, bytes, Manifest]
) -> None:
    _, data, manifest = packed
    with pytest.raises(CorruptWeights, match="fit"):
        load_weights(data, replace(manifest, delta_format="full"), tiny)
