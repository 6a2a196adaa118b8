"""Whole trainings of the product and of the researcher's loop, each in a fresh process."""

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import open_clip
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.training.memory import Meter, measuring
from clipcite.types.adapt import Precision
from clipcite.types.images import Image
from core.clip.config import STARTER, AdaptConfig
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.data.loader import read_images
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.device import mixed_precision
from core.clip.models.features import build_zero_shot_classifier, image_features
from core.clip.models.starter import starter_folder
from core.clip.prompts import class_prompts
from core.clip.training.progress import Reporter, StepProgress
from core.clip.training.trainer import fine_tune
from core.clip.weights.ensemble import interpolate
from examples import clip_cite
from worker.trainer.process import trainer_environment

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One training, self-contained for a fresh process."""

    backbone: str
    """Backbone name for load_backbone."""
    config: AdaptConfig
    shots: tuple[Image, ...]
    device: str
    threads: int | None
    cache: Path
    tests: tuple[Image, ...] = ()
    """Test images; empty for random weights, whose accuracy is meaningless."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(shot.class_name for shot in self.shots))

    @property
    def labels(self) -> list[int]:
        label = {name: i for i, name in enumerate(self.class_names)}
        return [label[shot.class_name] for shot in self.shots]

    @property
    def steps(self) -> int:
        return self.config.epochs * math.ceil(len(self.shots) / self.config.batch_size)

    def load(self) -> Backbone:
        if self.threads:
            torch.set_num_threads(self.threads)
        size, device = self.config.image_size, self.device
        return load_backbone(self.backbone, cache=self.cache, image_size=size, device=device)

    def cut(self, steps: int) -> "Job":
        """Return the job with at most `steps` steps, in whole epochs and full batches."""
        per_epoch = math.ceil(len(self.shots) / self.config.batch_size)
        kept, n = min(len(self.shots), steps * self.config.batch_size), len(self.shots)
        shots = tuple(self.shots[i * n // kept] for i in range(kept))  # evenly from all classes
        epochs = min(self.config.epochs, max(1, steps // per_epoch))
        return replace(self, shots=shots, config=self.config.model_copy(update={"epochs": epochs}))


@dataclass(frozen=True)
class Measured:
    """Measurements of one whole job."""

    seconds: float
    """Seconds from the files to θ_1, including decoding, without imports and loading of the network."""
    images_per_second: float
    """Rate after the first step, which sets up memory and kernels."""
    seconds_a_step: float
    """Seconds per step after the first."""
    peak_bytes: int
    """Peak memory during training, of the process or of the GPU."""
    loaded_bytes: int
    """Memory before training: the libraries and one copy of the network."""
    last_loss: float
    accuracy: float | None
    """Accuracy of θ(α) on the test images, in fp32, by the same code for all loops."""


def in_fresh_trainer(function: Callable[..., T], *arguments: object) -> T:
    """Run a function in a fresh process, with the memory settings of the worker's trainers."""
    before = dict(os.environ)
    os.environ |= trainer_environment(before)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def train_product(job: Job, backbone: Backbone, reporter: Reporter) -> dict[str, Tensor]:
    """Read the images and train, as core.clip.pipeline does, without its later steps."""
    prompts = [class_prompts(name, job.config.templates) for name in job.class_names]
    images = read(job, backbone.image_size)
    return fine_tune(backbone, images, job.labels, prompts, job.config, reporter)


def read(job: Job, image_size: int) -> list[Tensor]:
    shortest_side = math.ceil(image_size / math.sqrt(max(job.config.crop_scale, 0.25)))
    return read_images(job.shots, ImageLimits(), shortest_side)


def run_product(job: Job) -> Measured:
    backbone, clock = job.load(), Clock()
    with measuring(backbone.device) as meter:
        theta_1 = train_product(job, backbone, clock)
    return _measured(job, backbone, meter, clock, theta_1)


def run_researcher(job: Job, workers: int) -> Measured:
    if job.threads:
        torch.set_num_threads(job.threads)
    name = f"local-dir:{starter_folder(job.cache)}" if job.backbone == STARTER else job.backbone
    model = open_clip.create_model(name, force_image_size=job.config.image_size, pretrained_text=False)
    model, tokenizer, clock = model.to(job.device), open_clip.get_tokenizer(name), Clock()
    with measuring(next(model.parameters()).device) as meter:
        recipe = recipe_of(job.config)
        torch.manual_seed(recipe.seed)
        files = [cast(Path, shot.content) for shot in job.shots]
        batches = clip_cite.training_batches(model, files, job.labels, recipe, workers)
        theta_1 = clip_cite.train(model, tokenizer, batches, job.class_names, recipe, clock.tick)
    return _measured(job, job.load(), meter, clock, theta_1)


def recipe_of(config: AdaptConfig) -> clip_cite.Recipe:
    """Return the settings with which the standalone script trains as a job does."""
    shared = {f.name: getattr(config, f.name) for f in fields(clip_cite.Recipe) if f.name != "template"}
    return clip_cite.Recipe(**shared, template=config.templates[0])


class Clock(Reporter):
    """A reporter that records the end of each step and its losses L, L_DVA, L_SCL, L_VLD."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[tuple[float, float, float, float]] = []

    def tick(self, *losses: float) -> None:
        self.ends.append(time.monotonic())
        self.losses.append(cast(tuple[float, float, float, float], losses))

    def step(self, progress: StepProgress) -> None:
        self.tick(*progress.loss.values())

    @property
    def seconds_a_step(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def _measured(
    job: Job, backbone: Backbone, meter: Meter, clock: Clock, theta_1: dict[str, Tensor]
) -> Measured:
    images = len(job.shots) * job.config.epochs / job.steps  # per step
    return Measured(
        seconds=meter.seconds,
        images_per_second=images / clock.seconds_a_step,
        seconds_a_step=clock.seconds_a_step,
        peak_bytes=meter.peak_bytes,
        loaded_bytes=meter.loaded_bytes,
        last_loss=clock.losses[-1][0],
        accuracy=_accuracy(job, backbone, theta_1) if job.tests else None,
    )


def _accuracy(job: Job, backbone: Backbone, theta_1: dict[str, Tensor]) -> float:
    theta_0 = tower_parameters(backbone.model)
    model = with_parameters(backbone, interpolate(theta_0, theta_1, job.config.alpha))
    prompts = [class_prompts(name, job.config.templates) for name in job.class_names]
    head = build_zero_shot_classifier(model, backbone.tokenize, prompts)  # [C, D]
    correct = 0
    for start in range(0, len(job.tests), 64):
        tests = job.tests[start : start + 64]
        pixels = torch.stack([backbone.preprocess(open_image(test.read())) for test in tests])
        predicted = (image_features(model, pixels) @ head.T).argmax(dim=-1).tolist()
        correct += sum(
            job.class_names[label] == test.class_name for label, test in zip(predicted, tests, strict=True)
        )
    return correct / len(job.tests)


def precisions(device: str) -> list[Precision]:
    """Return fp32, and the precision that `auto` selects on this device."""
    names: dict[torch.dtype | None, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    automatic = names.get(mixed_precision("auto", torch.device(device)), "fp32")
    return ["fp32"] if automatic == "fp32" else ["fp32", automatic]


def run_loops(
    job: Job, repetitions: int, workers: Sequence[int], kept: Path, console: Console
) -> dict[str, list[Measured]]:
    """Run the loops in turn (A B C A B C …), and return the repetitions by loop. Each has another seed.

    Args:
        kept: JSON file of the measurements, which is resumed.
    """
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    runs = {name: [Measured(**m) for m in of_loop] for name, of_loop in known.items()}
    for seed in range(repetitions):
        seeded = replace(job, config=job.config.model_copy(update={"seed": seed}))
        loops: dict[str, tuple[Any, ...]] = {
            f"researcher, {_workers(n)}, fp32": (run_researcher, seeded, n) for n in workers
        }
        for precision in precisions(job.device):
            config = seeded.config.model_copy(update={"precision": precision})
            loops[f"product, {precision}"] = (run_product, replace(seeded, config=config))
        for name, (function, *arguments) in loops.items():
            if len(runs.setdefault(name, [])) > seed:
                continue
            measured: Measured = in_fresh_trainer(function, *arguments)
            runs[name].append(measured)
            content = {name: [asdict(m) for m in of_loop] for name, of_loop in runs.items()}
            kept.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            console.print(f"  {seed + 1}/{repetitions} {name}: {summary(measured)}", highlight=False)
    return {name: of_loop[:repetitions] for name, of_loop in runs.items() if len(of_loop) >= repetitions}


def _workers(count: int) -> str:
    return "no loader process" if count == 0 else f"{count} loader processes"


def summary(m: Measured) -> str:
    return f"{m.images_per_second:.1f} images/s, job {m.seconds:.1f} s, peak {m.peak_bytes / 1e9:.2f} GB"
