"""Choice of a training's precision on a CPU."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.clip.config import STARTER, AdaptConfig
from core.clip.models.backbone import Backbone
from core.clip.models.backbones import keep_speed, kept_speed
from tests.core.clip.recorder import Recorder
from worker.trainer import precision
from worker.trainer.precision import choose_precision


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
    monkeypatch.setattr(precision, "time", here)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    assert choose_precision(here.backbone, config, tmp_path, Recorder()) == fast
    assert here.passes == 8  # student and teacher in two steps of each
    kept = kept_speed(backbone.name, tmp_path)
    assert kept["precision"] == fast
    assert kept["images_per_second"] == 8 / 0.5  # 0.25 s in each network
    after = here.backbone.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    here.precision = fast  # another measurement would choose the other one
    assert choose_precision(here.backbone, config, tmp_path, Recorder()) == fast
    assert here.passes == 8


def test_what_is_decided_is_not_measured(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, auto = Slow(backbone, "bf16"), AdaptConfig(backbone=backbone.name)
    for asked in ("fp32", "bf16"):
        config = auto.model_copy(update={"precision": asked})
        assert choose_precision(here.backbone, config, tmp_path, Recorder()) == asked
    starter = AdaptConfig(backbone=STARTER)
    assert choose_precision(here.backbone, starter, tmp_path, Recorder()) == "auto"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert choose_precision(here.backbone, auto, tmp_path, Recorder()) == "auto"
    assert here.passes == 0
    assert not kept_speed(backbone.name, tmp_path)


def test_the_speed_at_another_size_is_not_that_of_the_backbone(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_speed(backbone.name, tmp_path, {"images_per_second": 3.0})
    config = AdaptConfig(backbone=backbone.name, image_size=backbone.image_size)
    here = Slow(backbone, "fp32")
    monkeypatch.setattr(precision, "time", here)
    choose_precision(here.backbone, config, tmp_path, Recorder())
    assert kept_speed(backbone.name, tmp_path) == {"images_per_second": 3.0, "precision": "bf16"}
