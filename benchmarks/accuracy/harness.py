"""Run methods on data sets, keep what they answered, and go on where a run was stopped."""

import platform
import re
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.scores import Answers, Scores
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.methods.common.task import Answerer, Method, Task, Tests
from benchmarks.run_store import RunStore
from core.clip.data.images import open_image
from core.clip.models.backbone import Backbone

PACKAGES = ("clipcite", "numpy", "open_clip_torch", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Trial:
    """One adaptation of one method and what it is tested on."""

    data: DataSet
    trained: tuple[int, ...]
    """Labels of the trained classes."""
    shots: int
    split: int
    seed: int
    tests: tuple[DataSet, ...]
    """`data` itself: its other classes are new. Any other: all its names are new, unless it has the same
    class names, as the variants of ImageNet have."""

    def key(self, method: str) -> str:
        """The name of this run in a store."""
        what = f"split{self.split}-seed{self.seed}-{self.shots}shots-{len(self.trained)}classes"
        if self.tests != (self.data,):
            what += f"-on-{self.tests[0].name}"
        return "/".join(_file_name(part) for part in (self.data.name, what, method))


@dataclass(frozen=True)
class Result:
    """One stored training of a method."""

    label: str
    """One training may give several: "FLYP" and "FLYP + WiSE-FT"."""
    answers: Mapping[str, Answers]
    """By the name of the test set."""
    seconds: float


def run(method: str, function: Method, trial: Trial, backbone: Backbone, out: Path) -> bool:
    """Adapt and test, unless that was done before; whether it was done now."""
    store = store_of(method, backbone, out)
    if store.get(trial.key(method)) is not None:
        return False
    task = task_of(trial, backbone)
    started = time.monotonic()
    answerers = function(task)
    seconds = time.monotonic() - started
    arrays: dict[str, NDArray[Any]] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    for data in trial.tests:
        for label, answerer in answerers.items():
            asked, name = ask(answerer, data, trial, backbone), f"{label}@{data.name}"
            scores[name] = asked.similarities
            arrays |= {f"{name}/{field}": array for field, array in vars(asked.answers()).items()}
            arrays[f"{name}/class_names"] = np.array(asked.class_names)
    record = {
        "labels": list(answerers),
        "tests": [data.name for data in trial.tests],
        "seconds": seconds,
        **facts(backbone),
    }
    store.add(trial.key(method), record, arrays, scores)
    return True


def results(method: str, trial: Trial, backbone: Backbone, out: Path) -> Iterator[Result]:
    """What `run` stored, if it did."""
    stored = store_of(method, backbone, out).get(trial.key(method))
    if stored is None:
        return
    for label in stored.record["labels"]:
        answers = {
            name: Answers(**{f.name: stored.array(f"{label}@{name}/{f.name}") for f in fields(Answers)})
            for name in stored.record["tests"]
        }
        yield Result(label, answers, stored.record["seconds"])


def store_of(method: str, backbone: Backbone, out: Path) -> RunStore:
    """Return the store of a kind of method: `ablation` of "ablation-stock", `methods` of "stock"."""
    kind = method.split("-")[0] if "-" in method else "methods"
    return RunStore(out, f"{kind}-{_file_name(backbone.name)}")


def facts(backbone: Backbone) -> dict[str, Any]:
    """Return the memory, machine and versions of a run."""
    return {
        "peak_bytes": _peak_bytes(backbone),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(backbone.device),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def task_of(trial: Trial, backbone: Backbone) -> Task:
    """What a trial gives to a method."""
    shots = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    label_of = {label: i for i, label in enumerate(trial.trained)}
    return Task(
        backbone,
        [open_image(e.path, shortest_side=2 * backbone.image_size) for e in shots],
        [label_of[e.label] for e in shots],
        [trial.data.class_names[label] for label in trial.trained],
        trial.data.templates,
        trial.seed,
    )


def ask(answerer: Answerer, data: DataSet, trial: Trial, backbone: Backbone) -> Scores:
    """Score the test images of a data set, with all of its names as candidates."""
    tests = _tests(backbone, tuple(e.path for e in data.test))
    similarities = answerer.similarities(tests, data.class_names).float().numpy()
    trained_classes = {trial.data.class_names[label] for label in trial.trained}
    trained = [label for label, name in enumerate(data.class_names) if name in trained_classes]
    return Scores(similarities, np.array([e.label for e in data.test]), tuple(trained), data.class_names)


@lru_cache(maxsize=8)
def _tests(backbone: Backbone, paths: tuple[Path, ...]) -> Tests:
    """Shared by the trials of a data set, so that its images are decoded once."""
    return Tests(backbone, paths)


def _peak_bytes(backbone: Backbone) -> int:
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")
