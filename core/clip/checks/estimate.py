"""How long an adaptation will take, and how much memory: from what earlier ones took."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.clip.config import STARTER, AdaptConfig

TRAINING_COST = 3.0
"""Training on an image once, in images that are only looked at."""


CV_BUDGET = 0.7
"""What training all siblings may cost, in trainings of the model. With what it takes to ask them, a report
then costs no more than the model."""


START_SECONDS = 4.0
"""Of every job, whatever its size: a process, the backbone, the decoding, the publication."""
MIN_PAST_JOBS = 5
"""Past jobs from which their own scatter is the interval."""
UNSURE = 2.0
"""With fewer, the factor that the true time may be off by."""
GUESSED = 4.0
"""With none."""
STARTER_IMAGES_A_SECOND = 30.0
"""Trained on two CPU cores at 160 x 160, see "Speed" in benchmarks/README.md."""
STARTER_SIZE = 160
STARTER_MEMORY = (1.1e9, 45e6)
"""Bytes of a training on a CPU: at rest, and for each image that the network holds at a time. Their sum
for 32 images was measured ("Speed"), how it divides is a guess."""


@dataclass(frozen=True)
class PastJob:
    """A job that has succeeded at the first attempt."""

    config: Mapping[str, Any]
    trained: int
    """Images."""
    tests: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    seconds: float | None
    """From the start of the job to its end, without the time in the queue. None: nothing is known."""
    low: float | None
    high: float | None
    """Between them it will most likely be."""
    memory_bytes: int | None
    basis: str
    """What it was made from, as a sentence."""


def estimate(config: AdaptConfig, trained: int, tests: int, past: Sequence[PastJob]) -> Estimate:
    """Of a job with so many training and test images.

    Args:
        past: jobs of this backbone and `image_size` on the same service, the newest first.
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
            spread = max(1.2, *(max(one / rate, rate / one) for one in _without_extremes(rates)))
        what = "1 job" if len(rates) == 1 else f"the last {len(rates)} jobs"
        basis = f"From {what} of this backbone and image size on this service."
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
    """In images that are trained on once. One that is only looked at costs less; for a report
    images are looked at by five networks, without one test images by two, and up to 128 shots by three.
    Without test images a report takes siblings, which learn nearly as much as the model."""
    measured = tests or round(config["holdout"] * trained)
    learned = trained if tests else trained - measured
    trainings, networks = 1.0, 2
    if config.get("evaluate", "none") != "none":  # jobs of older versions don't say
        networks = 5
        if not measured:
            trainings, measured = 1 + CV_BUDGET, trained
    return float(
        trainings * config["epochs"] * learned + networks / TRAINING_COST * measured + min(128, learned)
    )


def _without_extremes(rates: Sequence[float]) -> Sequence[float]:
    """The middle nine tenths."""
    cut = len(rates) // 20
    return sorted(rates)[cut : len(rates) - cut]


def _memory(config: AdaptConfig) -> int | None:
    if config.backbone != STARTER:
        return None
    rest, a_image = STARTER_MEMORY
    at_once = min(config.batch_size, config.micro_batch_size or config.batch_size)
    larger = ((config.image_size or STARTER_SIZE) / STARTER_SIZE) ** 2
    return round(rest + a_image * at_once * larger)
