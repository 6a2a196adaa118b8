"""Estimate of a training job's time, from past jobs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipcite.types.adapt import Estimate
from clipcite.types.jobs import Phase
from core.clip.config import MAX_SUPPORT_SHOTS, STARTER, AdaptConfig

FORWARD = 1 / 3
"""Work of one forward pass of an image."""
READING = 0.1
"""Work of reading one image."""
STARTING, STORING, REPORT = 60.0, 15.0, 15.0
"""Work of the phases that do not depend on the images."""
CV_BUDGET = 0.7
"""Maximum training cost of all fold models, as a fraction of the model's training. With their predictions, a
report then costs at most as much as the model."""
START_SECONDS = 4.0
"""Fixed time of a job (seconds): process start, loading of the backbone, decoding, publication."""
MIN_PAST_JOBS = 5
"""Minimum number of past jobs for an interval from their spread."""
DEFAULT_SPREAD = 2.0
"""Factor of the interval with fewer past jobs."""
GUESS_SPREAD = 4.0
"""Factor of the interval without past jobs."""
STARTER_IMAGES_PER_SECOND = 30.0
"""Training speed of the starter on two CPU cores at 160 x 160; see benchmarks/pages/training-speed.md."""
STARTER_SIZE = 160


@dataclass(frozen=True)
class Speed:
    """Speed of a training, for a backbone without past jobs."""

    images_per_second: float
    """Images per second and training step."""
    spread: float
    """Factor of the interval."""
    basis: str
    """Source of the speed, as a sentence."""
    here: bool = False
    """Whether it was measured with this backbone on this machine."""


@dataclass(frozen=True)
class PastJob:
    """A job that succeeded at the first attempt."""

    config: Mapping[str, Any]
    trained: int
    """Number of training images."""
    tests: int
    """Number of test images."""
    seconds: float


def estimate(
    config: AdaptConfig, trained: int, tests: int, past: Sequence[PastJob], speed: Speed | None = None
) -> Estimate:
    """Estimate the time of a job, without its memory.

    Args:
        trained: number of training images.
        tests: number of test images.
        past: jobs with this backbone and `image_size` on the same service, newest first.
        speed: speed of the backbone, if it is not the starter. Used without past jobs.
    """
    work = image_work(config.model_dump(), trained, tests)
    rates = [
        image_work(job.config, job.trained, job.tests) / max(job.seconds - START_SECONDS, 0.1 * job.seconds)
        for job in past
        if job.seconds > 0
    ]
    if rates:
        rate = statistics.median(rates)
        spread = DEFAULT_SPREAD
        if len(rates) >= MIN_PAST_JOBS:
            cut = len(rates) // 20  # leaves the middle 90%
            middle = sorted(rates)[cut : len(rates) - cut]
            spread = max(1.2, *(max(other / rate, rate / other) for other in middle))
        jobs = "1 job" if len(rates) == 1 else f"the last {len(rates)} jobs"
        basis = f"From {jobs} with this backbone and image size on this service."
    elif config.backbone == STARTER:
        rate, spread = STARTER_IMAGES_PER_SECOND, GUESS_SPREAD
        rate *= (STARTER_SIZE / (config.image_size or STARTER_SIZE)) ** 2
        basis = (
            "From a measurement on two CPU cores, because this service has not run a job with this backbone "
            "and image size yet."
        )
    elif speed is not None:
        rate, spread, basis = speed.images_per_second, speed.spread, speed.basis
    else:
        basis = "This service has not run a job with this backbone and image size yet."
        return Estimate(basis=basis)
    training = work / rate
    return Estimate(
        seconds=round(START_SECONDS + training, 1),
        low_seconds=round(START_SECONDS + training / spread, 1),
        high_seconds=round(START_SECONDS + training * spread, 1),
        basis=basis,
    )


def work_by_phase(
    config: Mapping[str, Any], trained: int, tests: int, *, folds: bool = True
) -> dict[Phase, float]:
    """Return the work of each phase of a job, in training steps on one image.

    Up to 4,096 shots pass 2 networks for the support set, test images 2. An evaluation without test images
    trains fold models, at nearly the cost of the model.

    Args:
        config: settings of the job, as stored.
        trained: number of training images.
        tests: number of test images.
        folds: whether there are enough images for fold models.
    """
    work: dict[Phase, float] = {
        "starting": STARTING,
        "reading": READING * trained,
        "features": (READING + FORWARD) * trained,
        "steps": float(config["epochs"] * trained),
        "support": 2 * FORWARD * min(MAX_SUPPORT_SHOTS, trained),
        "storing": STORING,
    }
    if config.get("evaluate", "none") == "none":  # jobs of older versions lack the field
        return work
    if tests:
        work["tests"] = (READING + 2 * FORWARD) * tests
    elif folds:
        work["folds"] = (CV_BUDGET * config["epochs"] + READING + 2 * FORWARD) * trained
    return {**work, "report": REPORT}


def image_work(config: Mapping[str, Any], trained: int, tests: int) -> float:
    """Return the work of a job that depends on its images, in training steps on one image."""
    fixed = {"starting", "storing", "report"}
    return sum(work for phase, work in work_by_phase(config, trained, tests).items() if phase not in fixed)
