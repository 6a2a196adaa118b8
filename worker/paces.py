"""Seconds that each phase of a job takes on this machine, kept beside the backbone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from clipcite.types.jobs import DOING, Phase
from core.clip.checks.estimate import STARTER_IMAGES_PER_SECOND
from core.clip.config import AdaptConfig
from core.clip.models.backbones import keep_speed, kept_speed

KEPT_JOBS = 5
"""Number of the last jobs whose paces are kept. Their median counts."""


@dataclass(frozen=True)
class Paces:
    """Seconds per unit of work (`core.clip.checks.estimate.work_by_phase`) of each phase."""

    seconds: Mapping[Phase, float]
    measured: bool
    """Whether earlier jobs on this machine were measured. Otherwise only the ratios are meaningful."""


def kept_paces(config: AdaptConfig, cache: Path) -> Paces:
    """Return the paces of earlier jobs with this backbone and image size. Others have that of steps."""
    kept = {phase: median(paces) for phase, paces in _kept(config, cache).items() if paces}
    usual = kept.get("steps", 1 / STARTER_IMAGES_PER_SECOND)
    return Paces({phase: kept.get(phase, usual) for phase in DOING}, "steps" in kept)


def keep_paces(config: AdaptConfig, cache: Path, measured: Mapping[Phase, float]) -> None:
    """Keep the paces of a job that ran on this machine."""
    kept = _kept(config, cache)
    paces = {phase: [*kept.get(phase, ()), pace][-KEPT_JOBS:] for phase, pace in measured.items()}
    speed = kept_speed(config.backbone, cache)
    of_sizes = {**speed.get("paces", {}), str(config.image_size): {**kept, **paces}}
    keep_speed(config.backbone, cache, {**speed, "paces": of_sizes})


def _kept(config: AdaptConfig, cache: Path) -> dict[Phase, list[float]]:
    kept: dict[Phase, list[float]] = (
        kept_speed(config.backbone, cache).get("paces", {}).get(str(config.image_size), {})
    )
    return kept
