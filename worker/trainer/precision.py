"""The precision of a training on a CPU: the faster one, measured at a backbone's first training."""

import time
from pathlib import Path
from typing import cast

import torch

from clipcite.types.adapt import Precision
from core.clip.config import STARTER, AdaptConfig, resolve_config
from core.clip.models.backbone import Backbone
from core.clip.models.backbones import keep_speed, kept_speed
from core.clip.models.device import multiplies_bf16
from core.clip.training.progress import Reporter, StepProgress
from core.clip.training.trainer import fine_tune

IMAGES = 8
"""Images per measured step. A whole batch in fp32 could need more memory than the training in bf16."""
CANDIDATES: tuple[Precision, ...] = ("fp32", "bf16")


class _Clock(Reporter):
    """Reporter that records the end of each step."""

    def __init__(self, reporter: Reporter) -> None:
        self.cancelled = reporter.cancelled  # type: ignore[method-assign]
        self.ends: list[float] = []

    def step(self, progress: StepProgress) -> None:
        self.ends.append(time.perf_counter())


def choose_precision(backbone: Backbone, config: AdaptConfig, cache: Path, reporter: Reporter) -> Precision:
    """Return the precision of a training with `config`.

    `auto` becomes the faster one of two steps in each. The first step sets up kernels and memory, the second
    is timed. The result is kept beside the backbone, for its later trainings on this machine. Nothing is
    measured where one precision is always faster: on a GPU, and on a CPU without instructions for bf16. The
    starter is not measured either, because it trains in seconds.
    """
    decided = backbone.device.type != "cpu" or not multiplies_bf16() or config.backbone == STARTER
    if config.precision != "auto" or decided:
        return config.precision
    kept = kept_speed(config.backbone, cache)
    if kept.get("precision") in CANDIDATES:
        return cast(Precision, kept["precision"])
    side = backbone.image_size
    images = list(torch.randint(256, (IMAGES, 3, side, side), dtype=torch.uint8))
    prompts = [["a photo of a cat."], ["a photo of a dog."]]
    speeds: dict[Precision, float] = {}
    for precision in CANDIDATES:
        clock = _Clock(reporter)
        recipe = resolve_config(
            backbone=config.backbone,
            epochs=2,
            batch_size=IMAGES,
            micro_batch_size=config.micro_batch_size,
            precision=precision,
        )
        fine_tune(backbone, images, [0, 1] * (IMAGES // 2), prompts, recipe, clock)
        first, second = clock.ends
        speeds[precision] = IMAGES / (second - first)
    fastest = max(CANDIDATES, key=lambda precision: speeds[precision])
    kept |= {"precision": fastest}
    if config.image_size == resolve_config(backbone=config.backbone).image_size:
        kept |= {"images_per_second": speeds[fastest]}
    keep_speed(config.backbone, cache, kept)
    return fastest
