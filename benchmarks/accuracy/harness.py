"""Run methods on data sets, keep what they answered, and go on where a run was stopped."""

import json
import platform
import re
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.scores import Answers
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.methods.common.task import Answerer, Method, Task, Tests
from core.clip.data.images import open_image
from core.clip.models.backbone import Backbone

DONE = "done.json"


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

    def folder(self, out: Path, backbone: Backbone, method: str) -> Path:
        what = f"split{self.split}-seed{self.seed}-{self.shots}shots-{len(self.trained)}classes"
        if self.tests != (self.data,):
            what += f"-on-{self.tests[0].name}"
        return out / _file_name(backbone.name) / _file_name(self.data.name) / what / _file_name(method)


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
    folder = trial.folder(out, backbone, method)
    if (folder / DONE).exists():
        return False
    task = task_of(trial, backbone)
    started = time.monotonic()
    answerers = function(task)
    seconds = time.monotonic() - started
    folder.mkdir(parents=True, exist_ok=True)
    for data in trial.tests:
        for label, answerer in answerers.items():
            ask(answerer, data, trial, backbone).save(_file(folder, label, data.name))
    record = {
        "labels": list(answerers),
        "tests": [data.name for data in trial.tests],
        "seconds": seconds,
        "peak_bytes": _peak_bytes(backbone),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(backbone.device),
            "torch": torch.__version__,
        },
    }
    (folder / DONE).write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return True


def results(method: str, trial: Trial, backbone: Backbone, out: Path) -> Iterator[Result]:
    """What `run` stored, if it did."""
    folder = trial.folder(out, backbone, method)
    if not (folder / DONE).exists():
        return
    record = json.loads((folder / DONE).read_text(encoding="utf-8"))
    for label in record["labels"]:
        answers = {name: Answers.load(_file(folder, label, name)) for name in record["tests"]}
        yield Result(label, answers, record["seconds"])


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


def ask(answerer: Answerer, data: DataSet, trial: Trial, backbone: Backbone) -> Answers:
    """What a method answers to the test pictures of a data set, all of whose names are candidates."""
    tests = _tests(backbone, tuple(e.path for e in data.test))
    similarities = answerer.similarities(tests, data.class_names).float().numpy()
    trained_names = {trial.data.class_names[label] for label in trial.trained}
    trained = [label for label, name in enumerate(data.class_names) if name in trained_names]
    return Answers.of(similarities, np.array([e.label for e in data.test]), trained)


@lru_cache(maxsize=8)
def _tests(backbone: Backbone, paths: tuple[Path, ...]) -> Tests:
    """Shared by the trials of a data set, so that its pictures are decoded once."""
    return Tests(backbone, paths)


def _file(folder: Path, label: str, tests: str) -> Path:
    return folder / f"{_file_name(label)}@{_file_name(tests)}.npz"


def _peak_bytes(backbone: Backbone) -> int:
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")
