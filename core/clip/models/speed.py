"""Training speed of a backbone on this machine: measured once, and kept beside the backbone."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from clipcite.types.adapt import Precision
from core.clip.config import STARTER, AdaptConfig, resolve_config
from core.clip.models.backbones import folder_of
from core.clip.models.device import mixed_precision, multiplies_bf16

if TYPE_CHECKING:
    from core.clip.models.backbone import Backbone

SPEED = "speed.json"
"""File with measurements of trainings on this machine, in the folder of a backbone."""
CANDIDATES: tuple[Precision, ...] = ("fp32", "bf16")
"""Precisions of a CPU with instructions for bf16. Either may be the faster one."""
IMAGES = 4
LONG_SECONDS = 2.5
"""If the first image of a measurement takes longer than this, it is the only one (seconds)."""


def kept_speed(name: str, cache: Path) -> dict[str, Any]:
    """Return what was measured of a backbone's trainings: `images_per_second` and `precision`, if known."""
    try:
        kept = json.loads((folder_of(name, cache) / SPEED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def keep_speed(name: str, cache: Path, measured: Mapping[str, Any]) -> None:
    """Keep measurements of a backbone's trainings. If they can't be written, they are made again."""
    folder = folder_of(name, cache)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEED).write_text(json.dumps(measured), encoding="utf-8")


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
