"""Rate of matrix products of the machine, and the share that a training step reaches."""

import time
from dataclasses import dataclass, replace

import torch

from benchmarks.training.flops import step_flops
from benchmarks.training.loops import Clock, Job, read, train_product
from benchmarks.training.profile import ProfiledSteps, labelled
from core.clip.data.transforms import random_resized_crop
from core.clip.models.device import mixed_precision


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate of square matrix products of several sizes, in FLOP/s."""
    best = 0.0
    for size in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(6):
            started = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


@dataclass(frozen=True)
class Limit:
    flops: dict[str, int]
    rate: float
    """Rate of matrix products, in FLOP/s."""
    seconds_a_step: float
    profiled_seconds_a_step: float
    groups: dict[str, float]
    """Seconds per profiled step, by group."""
    crops_seconds_a_step: float
    """Seconds per step for the crops, which run in a separate thread."""

    @property
    def share(self) -> float:
        """Share of the machine's matrix product rate that the step reaches."""
        return sum(self.flops.values()) / self.rate / self.seconds_a_step


def measure_limit(job: Job) -> Limit:
    backbone = job.load()
    dtype = mixed_precision(job.config.precision, backbone.device) or torch.float32
    prompts = [job.config.templates[0].replace("{}", name) for name in job.class_names]
    clock, profiled = Clock(), ProfiledSteps(job.steps, backbone.device)
    train_product(job, backbone, clock)
    train_product(job, replace(backbone, model=labelled(backbone.model)), profiled)
    return Limit(
        flops=step_flops(backbone, prompts[: job.config.batch_size], job.config),
        rate=matmul_rate(dtype, backbone.device),
        seconds_a_step=clock.seconds_a_step,
        profiled_seconds_a_step=profiled.seconds_a_step,
        groups=profiled.groups(),
        crops_seconds_a_step=_crops_seconds(job, backbone.image_size),
    )


def _crops_seconds(job: Job, size: int) -> float:
    images = read(job, size)[: job.config.batch_size]
    generator, started = torch.Generator().manual_seed(0), time.monotonic()
    for image in images:
        random_resized_crop(image, size, job.config.crop_scale, generator)
    return time.monotonic() - started
