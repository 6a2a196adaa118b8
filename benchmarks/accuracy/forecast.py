"""Time of a series of trainings, before the first one."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.accuracy.harness import Trial, shots_of, store_of
from benchmarks.methods.clip_cite import config_of, train
from benchmarks.methods.common.task import Task
from core.clip.checks.estimate import FORWARD
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone


def forecast(methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path) -> str:
    """Return the number of trainings that are left, and their time by a short trial training."""
    stores = {method: store_of(method, backbone, out) for method in methods}
    left = [t for method, store in stores.items() for t in trials if store.get(t.key(method)) is None]
    count = f"{len(methods) * len(trials)} trainings, {len(left)} of them to run."
    if not left:
        return count
    epochs = resolve_config(backbone=backbone.name).epochs  # tests are encoded at two α
    images = sum(
        epochs * len(shots_of(trial)) + 2 * FORWARD * sum(len(t.test) for t in trial.tests) for trial in left
    )
    rate = images_per_second(backbone)
    return f"{count} About {images / rate / 3600:.1f} hours, at {rate:.1f} training images per second."


def images_per_second(backbone: Backbone) -> float:
    """Return the training speed on noise. The first of two trainings warms the device up."""
    size, side = resolve_config(backbone=backbone.name).batch_size, backbone.image_size
    noise = list(torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8))
    task = Task(backbone, noise, [i % 2 for i in range(size)], ("a", "b"))
    for _ in range(2):
        started = time.monotonic()
        train(task, config_of(task, epochs=1))
    return size / (time.monotonic() - started)
