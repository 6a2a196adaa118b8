"""Training speed of a backbone, and the choice of a training's precision on a CPU."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.clip.config import STARTER, AdaptConfig
from core.clip.models import speed
from core.clip.models.backbone import Backbone
from core.clip.models.backbones import keep_speed, kept_speed
from core.clip.models.speed import choose_precision, measure_speed


class Slow:
    """A backbone that is slow in one precision by its own clock. It counts passes of its image tower."""

    def __init__(self, backbone: Backbone, precision: str) -> None:
        self.precision, self.passes, self.now = precision, 0, 0.0
        model = copy.deepcopy(backbone.model)
        model.get_submodule("visual").register_forward_hook(self.slow)
        self.backbone = replace(backbone, model=model)

    def slow(self, *_: object) -> None:
        self.passes += 1
        self.now += 0.5 if torch.is_autocast_enabled("cpu") == (self.precision == "bf16") else 0.25

    def perf_counter(self) -> float:
        return self.now

    def __deepcopy__(self, _: object) -> "Slow":
        return self


@pytest.fixture(autouse=True)
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


@pytest.mark.parametrize(("slow", "fast"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_faster_one_is_chosen_and_kept(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str, fast: str
) -> None:
    here, config = Slow(backbone, slow), AdaptConfig(backbone=backbone.name)
    monkeypatch.setattr(speed, "time", here)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    assert choose_precision(here.backbone, config, tmp_path) == fast
    assert here.passes == 4  # one image and four images in each
    kept = kept_speed(backbone.name, tmp_path)
    assert kept["precision"] == fast
    assert kept["images_per_second"] == 4 / 0.25
    after = here.backbone.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in here.backbone.model.parameters())
    here.precision = fast  # another measurement would choose the other one
    assert choose_precision(here.backbone, config, tmp_path) == fast
    assert here.passes == 4


def test_an_installed_backbone_is_measured_once(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Slow(backbone, "bf16")
    monkeypatch.setattr(speed, "time", here)
    keep_speed(backbone.name, tmp_path, measure_speed(here.backbone))
    assert choose_precision(here.backbone, AdaptConfig(backbone=backbone.name), tmp_path) == "fp32"
    assert here.passes == 4


def test_a_slow_backbone_is_measured_with_one_image(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Slow(backbone, "bf16")
    monkeypatch.setattr(speed, "time", here)
    monkeypatch.setattr(speed, "LONG_SECONDS", 0.2)
    assert measure_speed(here.backbone) == {"images_per_second": 1 / 0.25, "precision": "fp32"}
    assert here.passes == 2


def test_what_is_decided_is_not_measured(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, auto = Slow(backbone, "bf16"), AdaptConfig(backbone=backbone.name)
    for asked in ("fp32", "bf16"):
        config = auto.model_copy(update={"precision": asked})
        assert choose_precision(here.backbone, config, tmp_path) == asked
    starter = AdaptConfig(backbone=STARTER)
    assert choose_precision(here.backbone, starter, tmp_path) == "auto"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert choose_precision(here.backbone, auto, tmp_path) == "auto"
    assert here.passes == 0
    assert not kept_speed(backbone.name, tmp_path)


def test_the_speed_at_another_size_is_not_that_of_the_backbone(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_speed(backbone.name, tmp_path, {"images_per_second": 3.0})
    config = AdaptConfig(backbone=backbone.name, image_size=backbone.image_size)
    here = Slow(backbone, "fp32")
    monkeypatch.setattr(speed, "time", here)
    choose_precision(here.backbone, config, tmp_path)
    assert kept_speed(backbone.name, tmp_path) == {"images_per_second": 3.0, "precision": "bf16"}
