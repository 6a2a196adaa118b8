"""Recommendation of a pre-trained model for a machine, and the models to recommend."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from core.clip.checks.estimate import GUESS_SPREAD, Speed, estimate
from core.clip.config import resolve_config
from core.clip.models import backbones
from core.clip.models.device import find_device, mixed_precision

GB = 1_000_000_000
TRAINING_GB, SERVING_GB = 7, 2
"""Memory that the smallest CLIP needs for training, and for a service that only classifies (GB)."""


@dataclass(frozen=True)
class Curated:
    """A pre-trained model that the project describes. open_clip knows many more."""

    name: str
    title: str
    license: str
    bytes: int
    """Size of the download."""
    cpu_images_per_second: float
    """Training speed on two CPU cores in fp32, in images per second (docs/operate/backbones.md, "Sizes")."""


CURATED = (
    Curated("ViT-B-16/openai", "CLIP ViT-B/16", "MIT", 599_000_000, 32 / 39.3),
    Curated("ViT-B-32/openai", "CLIP ViT-B/32", "MIT", 605_000_000, 32 / 12.1),
    Curated("ViT-L-14/openai", "CLIP ViT-L/14", "MIT", 1_711_000_000, 32 / 343.5),
    Curated("ViT-B-16-SigLIP2/webli", "SigLIP 2 ViT-B/16", "Apache-2.0", 1_501_000_000, 32 / 37.4),
)
BF16_GAIN = 4.0 / (32 / 39.3)
"""Factor of the speed with bf16, as measured with ViT-B/16 (docs/operate/gpu.md, "Sizing")."""
PHOTOS, PATIENCE_SECONDS = 40, 600
"""A recommended model trains on so many photos in this time (seconds)."""


@dataclass(frozen=True)
class Machine:
    """Resources that determine a recommendation (bytes)."""

    gpu: int | None
    """Memory of the GPU; None without a GPU."""
    memory: int
    """Available memory of the system or the container."""
    disk: int
    """Disk space available to downloads. It may be negative."""
    bf16: bool
    """True if the CPU multiplies bf16 in hardware."""
    cores: int


def recommend(machine: Machine, cache: Path) -> tuple[str | None, str]:
    """Return the name of the best model that fits the machine, or None, and the reason as a sentence.

    On a CPU the larger one must be fast enough, by the speed measured on this machine, else by a guess.
    """
    name = None
    if machine.gpu is not None:
        memory = machine.gpu
        name = "ViT-B-16/openai" if memory >= 8 * GB else None
    else:
        memory = machine.memory
        if memory >= 8 * GB:
            speed = find_speed("ViT-B-16/openai", cache, machine)
            job = estimate(resolve_config(backbone="ViT-B-16/openai"), PHOTOS, 0, [], speed)
            fast = job.seconds is not None and job.seconds <= PATIENCE_SECONDS
            name = "ViT-B-16/openai" if memory >= 12 * GB and fast else "ViT-B-32/openai"
    if name is None:
        return None, (
            f"CLIP needs about {TRAINING_GB} GB of free memory; this machine has {memory // GB}. You can "
            f"keep the starter, or classify with CLIP without training ({SERVING_GB} GB)."
        )
    curated = next(each for each in CURATED if each.name == name)
    if machine.disk < curated.bytes:
        return None, (
            f"{curated.title} needs {curated.bytes / GB:.1f} GB of disk space, and "
            f"{max(machine.disk, 0) / GB:.1f} GB is available. Free disk space, or set "
            "CLIPCITE_CACHE to a folder on another disk."
        )
    return name, f"{curated.title} fits this machine."


def find_speed(name: str, cache: Path, machine: Machine) -> Speed | None:
    """Return the training speed from the speed test at installation or at the first training, or an estimate.

    The estimate is the speed on another machine times a factor. The factor is the same for all backbones, so
    that their order is right. It comes from another backbone that was tested on this machine, else from the
    number of cores, at most 8, and bf16. Return None for an unknown backbone, and on a GPU if no backbone was
    tested.
    """
    if (tested := _tested_speed(name, cache)) is not None:
        basis = "From the speed test of this backbone on this machine."
        return Speed(tested, GUESS_SPREAD / 2, basis, here=True)
    curated = next((each for each in CURATED if each.name == name), None)
    if curated is None:
        return None
    for other in CURATED:
        if (tested := _tested_speed(other.name, cache)) is not None:
            factor, basis = tested / other.cpu_images_per_second, f"From the speed test of {other.title}."
            break
    else:
        if machine.gpu is not None:
            return None
        factor = min(machine.cores, 8) / 2 * (BF16_GAIN if machine.bf16 else 1)
        basis = "From a measurement of this backbone on two cores of another machine."
    return Speed(curated.cpu_images_per_second * factor, GUESS_SPREAD, basis)


def _tested_speed(name: str, cache: Path) -> float | None:
    """Return the speed of a backbone's trainings as measured on this machine, or None."""
    try:
        return float(backbones.kept_speed(name, cache)["images_per_second"])
    except (ValueError, KeyError, TypeError):
        return None


@lru_cache
def this_machine(device: str, cache: Path) -> Machine:
    """Return the resources of this machine at the first call, so that the recommendation stays the same.

    Args:
        device: setting `device`.
        cache: folder of the backbones, which may not exist yet.
    """
    chosen = find_device(device)
    folder = next(path for path in (cache.absolute(), *cache.absolute().parents) if path.exists())
    return Machine(
        gpu=torch.cuda.get_device_properties(chosen).total_memory if chosen.type == "cuda" else None,
        memory=_available_memory(Path("/proc/meminfo"), Path("/sys/fs/cgroup")),
        disk=backbones.spare_bytes(folder),
        bf16=mixed_precision("auto", torch.device("cpu")) is not None,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _available_memory(meminfo: Path, cgroup: Path) -> int:
    """Return the memory that is available in the system and the container (bytes)."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = 1_024 * int(lines["MemAvailable"].split()[0])
    except OSError:  # not Linux
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit, used = ((cgroup / f"memory.{file}").read_text().strip() for file in ("max", "current"))
        return available if limit == "max" else min(available, max(0, int(limit) - int(used)))
    except OSError:
        return available
