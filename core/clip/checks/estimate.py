"""Estimates of a training job's duration and memory, based on past jobs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.clip.config import STARTER, AdaptConfig

TRAINING_COST = 3.0
"""Cost of training on an image once, relative to the forward pass alone."""


CV_BUDGET = 0.7
"""Maximum cost of training all fold models, relative to training the published model.

With their predictions included, a report then costs no more than the model.
"""


START_SECONDS = 4.0
"""Fixed seconds of every job: process start, loading of the backbone, decoding and publication."""
MIN_PAST_JOBS = 5
"""Minimum past jobs for taking the interval from their scatter."""
UNSURE = 2.0
"""Factor between the estimate and the ends of its interval with fewer past jobs."""
GUESSED = 4.0
"""The same factor without past jobs."""
STARTER_IMAGES_A_SECOND = 30.0
"""Training speed on two CPU cores at 160 x 160 pixels: see "Speed" in benchmarks/README.md."""
STARTER_SIZE = 160
"""Input side of the starter backbone in pixels."""
STARTER_MEMORY = (1.1e9, 45e6)
"""Bytes for training on a CPU: fixed, and per image of a micro-batch.

The sum for 32 images was measured ("Speed" in benchmarks/README.md). Its division is a guess.
"""


@dataclass(frozen=True)
class PastJob:
    """A job that succeeded at the first attempt."""

    config: Mapping[str, Any]
    trained: int
    """Number of training images."""
    tests: int
    """Number of test images."""
    seconds: float
    """Duration of the job."""


@dataclass(frozen=True)
class Estimate:
    """Estimated duration and memory of a job."""

    seconds: float | None
    """Duration from the start of the job to its end, without the time in the queue. None if unknown."""
    low: float | None
    """Lower end of the interval in which the duration most likely lies."""
    high: float | None
    """Upper end of that interval."""
    memory_bytes: int | None
    """Peak memory, or None if unknown."""
    basis: str
    """The basis of the estimate, as a sentence."""


def estimate(config: AdaptConfig, trained: int, tests: int, past: Sequence[PastJob]) -> Estimate:
    """Return the estimate for a job with `trained` training images and `tests` test images.

    Args:
        config: The job's configuration.
        trained: Number of training images.
        tests: Number of test images.
        past: Jobs of this backbone and `image_size` on the same service, newest first.
    """
    work = _work(config.to_dict(), trained, tests)
    rates = [
        _work(job.config, job.trained, job.tests) / max(job.seconds - START_SECONDS, 0.1 * job.seconds)
        for job in past
        if job.seconds > 0
    ]
    memory = _memory(config)
    if rates:
        rate = statistics.median(rates)
        spread = UNSURE
        if len(rates) >= MIN_PAST_JOBS:
            spread = max(1.2, *(max(r / rate, rate / r) for r in _without_extremes(rates)))
        jobs = "1 job" if len(rates) == 1 else f"the last {len(rates)} jobs"
        basis = f"From {jobs} of this backbone and image size on this service."
    elif config.backbone == STARTER:
        rate, spread = STARTER_IMAGES_A_SECOND, GUESSED
        rate *= (STARTER_SIZE / (config.image_size or STARTER_SIZE)) ** 2
        basis = "No job of this backbone and image size has ended here yet: from a computer of two cores."
    else:
        return Estimate(
            None, None, None, memory, "No job of this backbone and image size has ended here yet."
        )
    training = work / rate
    return Estimate(
        round(START_SECONDS + training, 1),
        round(START_SECONDS + training / spread, 1),
        round(START_SECONDS + training * spread, 1),
        memory,
        basis,
    )


def _work(config: Mapping[str, Any], trained: int, tests: int) -> float:
    """Return a job's work in images trained on once.

    A forward pass alone costs less: 1 / `TRAINING_COST`. For a report, five models predict each measured image.
    Without a report, two models predict each test image. Three models predict up to 128 shots. Without test
    images, a report needs fold models, whose training costs `CV_BUDGET` of the model's.
    """
    measured = tests or round(config["holdout"] * trained)
    learned = trained if tests else trained - measured
    trainings, models = 1.0, 2
    if config.get("evaluate", "none") != "none":  # jobs of older versions lack this setting
        models = 5
        if not measured:
            trainings, measured = 1 + CV_BUDGET, trained
    return float(
        trainings * config["epochs"] * learned + models / TRAINING_COST * measured + min(128, learned)
    )


def _without_extremes(rates: Sequence[float]) -> Sequence[float]:
    """Return the middle nine tenths of the rates in ascending order."""
    cut = len(rates) // 20
    return sorted(rates)[cut : len(rates) - cut]


def _memory(config: AdaptConfig) -> int | None:
    if config.backbone != STARTER:
        return None
    fixed, per_image = STARTER_MEMORY
    images = min(config.batch_size, config.micro_batch_size or config.batch_size)
    area_ratio = ((config.image_size or STARTER_SIZE) / STARTER_SIZE) ** 2
    return round(fixed + per_image * images * area_ratio)
