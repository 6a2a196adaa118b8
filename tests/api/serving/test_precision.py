"""Serving in another precision than fp32, in which models are trained, evaluated and calibrated."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from api.models.exports import export
from api.serving.types import WeightsKey
from core.clip.errors import InvalidConfig
from core.clip.models.features import encode_tokens
from core.clip.weights.support_set import SupportSet
from tests.api.serving.adapted import CLASSES, KNOWN
from tests.api.serving.world import NAMES, World, images, numbers, offsets

ROUNDING = 0.05
"""Bound of the difference of a normalised feature or a probability of the tiny network in bf16."""


@pytest.fixture
def half(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A service in bf16 on the data of `world`."""
    half = World(world.backbone, world.settings.data, monkeypatch, serving_precision="bf16")
    yield half
    half.close()


def test_both_towers_compute_in_the_precision_of_the_service(world: World, half: World) -> None:
    tokens = world.backbone.tokenize(NAMES)
    found = []
    for each in (world, half):
        engine = each.serving.engine
        with engine.pool.acquire(WeightsKey(each.backbone.name), 0, wait_seconds=None) as model:
            found.append(
                (
                    engine.encode_images(model, images(each), wait_seconds=None),
                    engine.encode_text(model, tokens, wait_seconds=None),
                )
            )
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == torch.float32
        assert 1e-5 < float((rounded - exact).abs().max()) < ROUNDING
    with torch.autocast("cpu", torch.bfloat16):
        expected = encode_tokens(world.backbone.model, tokens)
    torch.testing.assert_close(found[1][1], expected, atol=ROUNDING / 5, rtol=0)
    assert (world.serving.engine.precision, half.serving.engine.precision) == ("fp32", "bf16")


def test_a_calibration_in_fp32_holds_for_probabilities_in_bf16(world: World, half: World) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(3, 4, 32, generator=generator), dim=-1)
    shots = SupportSet(features, torch.tensor([0, 0, 1, 1]))
    model = world.publish(shots=shots, metrics={"calibration": KNOWN.to_dict()})
    exact, rounded = (w.classify(CLASSES, model=model, coverage=0.9) for w in (world, half))
    assert exact.calibration == rounded.calibration
    assert (exact.calibration.calibrated, exact.calibration.temperature) == (True, KNOWN.temperature)
    assert offsets(exact) == pytest.approx(offsets(rounded), abs=ROUNDING)
    assert numbers(exact) != numbers(rounded)
    for one, other in zip(numbers(exact), numbers(rounded), strict=True):
        for name, (probability, _) in one.items():
            assert other[name][0] == pytest.approx(probability, abs=4 * ROUNDING)
    threshold = KNOWN.conformal_threshold(0.9)
    for row, result in zip(numbers(rounded), rounded.results, strict=True):
        best = max(row, key=lambda name: row[name][0])
        assert set(result.prediction_set or ()) == {best} | {
            name for name, (p, _) in row.items() if p >= threshold
        }


def test_an_export_is_in_fp32(world: World, half: World) -> None:
    model = world.row(world.publish())
    found = []
    for each in (world, half):
        with export(each.settings, each.pool, each.blobs, model, 0.5, "open_clip") as file:
            found.append({member.filename: member.CRC for member in zipfile.ZipFile(file).infolist()})
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_precision_of_gpus_is_refused_on_a_cpu(
    world: World, monkeypatch: pytest.MonkeyPatch, precision: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match=f"{precision} needs a GPU"):
        World(world.backbone, tmp_path, monkeypatch, serving_precision=precision)
