"""Measurement of a backbone's training speed on this machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from clipcite.types.adapt import Precision
from core.clip.config import STARTER, AdaptConfig, resolve_config
from core.clip.models.backbones import keep_speed, kept_speed
from core.clip.models.device import mixed_precision, multiplies_bf16

if TYPE_CHECKING:
    from core.clip.models.backbone import Backbone

CANDIDATES: tuple[Precision, ...] = ("fp32", "bf16")
"""Precisions of a CPU with instructions for bf16. Either may be the faster one."""
IMAGES = 4
LONG_SECONDS = 2.5
"""If the first image of a measurement takes longer than this, it is the only one (seconds)."""


def measure_speed(backbone: "Backbone") -> dict[str, Any]:
    """Measure a backbone's training speed. Return `images_per_second`, and the `precision` that has it.

    The image tower processes images forward and backward, in each precision that may be the faster one. The
    first image sets up kernels and memory.
    """
    model, device = backbone.model, backbone.device
    both = device.type == "cpu" and multiplies_bf16()
    precisions: tuple[Precision, ...] = CANDIDATES if both else ("auto",)

    def seconds(images: int, precision: Precision) -> float:
        pixels = torch.zeros(images, 3, backbone.image_size, backbone.image_size, device=device)
        dtype = mixed_precision(precision, device)
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            features = model.encode_image(pixels)  # type: ignore[operator]
        features.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    tower = model.get_submodule("visual")
    tower.requires_grad_(True)
    try:
        images = 1
        taken = {precision: seconds(images, precision) for precision in precisions}
        if min(taken.values()) <= LONG_SECONDS:
            images = IMAGES
            taken = {precision: seconds(images, precision) for precision in precisions}
    finally:
        tower.requires_grad_(False)
        tower.zero_grad()
    fastest = min(taken, key=lambda precision: taken[precision])
    return {"images_per_second": images / taken[fastest], "precision": fastest}


def choose_precision(backbone: "Backbone", config: AdaptConfig, cache: Path) -> Precision:
    """Return the precision of a training with `config`.

    `auto` becomes the faster one on this machine, measured when the backbone was installed, else now.
    Nothing is measured where one precision is always faster: on a GPU, and on a CPU without instructions for
    bf16. The starter is not measured either, because it trains in seconds.
    """
    decided = backbone.device.type != "cpu" or not multiplies_bf16() or config.backbone == STARTER
    if config.precision != "auto" or decided:
        return config.precision
    kept = kept_speed(config.backbone, cache)
    if kept.get("precision") not in CANDIDATES:
        measured = measure_speed(backbone)
        if config.image_size != resolve_config(backbone=config.backbone).image_size:
            del measured["images_per_second"]
        kept |= measured
        keep_speed(config.backbone, cache, kept)
    return cast(Precision, kept["precision"])
