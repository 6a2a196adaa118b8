"""Runs of methods on data sets: store the scores, and resume an interrupted series."""

import platform
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.accuracy.scores import BestScores, Scores, new_labels, of_own_kind
from benchmarks.data.dataset import DataSet, Example
from benchmarks.data.few_shot import draw_shots, published_shots
from benchmarks.machine import commit
from benchmarks.methods.common.task import Method, Predictor, Task, Tests, read_image
from benchmarks.run_store import Run, RunStore
from core.clip.data.transforms import to_tensor
from core.clip.models.backbone import Backbone

PACKAGES = ("clipcite", "numpy", "open_clip_torch", "pillow", "timm", "torch", "torchvision")
Draws = Literal["hash", "2sfs"]


@dataclass(frozen=True)
class Trial:
    """One adaptation and its test sets."""

    data: DataSet
    trained: tuple[int, ...]
    """Labels of the trained classes."""
    shots: int
    split: int
    seed: int
    tests: tuple[DataSet, ...]
    """Test sets. In `data` itself the untrained classes are new. In any other set a class is new unless its
    name is trained, as in the variants of ImageNet."""
    template: str = ""
    """Prompt template that replaces the data set's."""
    draws: Draws = "hash"
    """Source of the shots: ranked by hash, or the published draws of 2SFS."""
    tests_per_class: int | None = None
    """Maximum number of test images per class; None for all."""
    exact_pixels: bool = False
    """Images are neither reduced nor turned upright before the transform of the network."""

    def key(self, method: str) -> str:
        """Return the name of this run in a store."""
        what = f"split{self.split}-seed{self.seed}-{self.shots}shots-{len(self.trained)}classes"
        if self.tests != (self.data,):
            what += f"-on-{self.tests[0].name}"
        if self.template:
            what += f"-prompt-{self.template}"
        if self.draws != "hash":
            what += f"-draws-{self.draws}"
        if self.tests_per_class is not None:
            what += f"-{self.tests_per_class}tests"
        if self.exact_pixels:
            what += "-exact-pixels"
        return "/".join(_file_name(part) for part in (self.data.name, what, method))


@dataclass(frozen=True)
class Result:
    """One stored training of a method."""

    label: str
    """One training may have several labels: "FLYP" and "FLYP + WiSE-FT"."""
    answers: Mapping[str, BestScores]
    """Best scores by test set name."""
    seconds: float


def run(method: str, function: Method, trial: Trial, backbone: Backbone, out: Path) -> bool:
    """Adapt and test, unless the run is stored already. Return True if it ran now."""
    store = store_of(method, backbone, out)
    if store.get(trial.key(method)) is not None:
        return False
    task = task_of(trial, backbone)
    started = time.monotonic()
    with counted_steps() as steps:
        predictors = function(task)
    seconds = time.monotonic() - started
    arrays: dict[str, NDArray[Any]] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    for data in trial.tests:
        for label, predictor in predictors.items():
            result, name = score_tests(predictor, data, trial, backbone), f"{label}@{data.name}"
            scores[name] = result.similarities
            arrays |= {f"{name}/{field}": array for field, array in vars(result.best()).items()}
            arrays[f"{name}/class_names"] = np.array(result.class_names)
    record = {
        "labels": list(predictors),
        "tests": [data.name for data in trial.tests],
        "seconds": seconds,
        "iterations": len(steps),
        **facts(backbone),
    }
    store.add(trial.key(method), record, arrays, scores)
    return True


def results(method: str, trial: Trial, backbone: Backbone, out: Path) -> Iterator[Result]:
    """Yield the stored results of a trial, none if it has not run."""
    stored = store_of(method, backbone, out).get(trial.key(method))
    if stored is None:
        return
    for label in stored.record["labels"]:
        answers = {name: stored_scores(stored, f"{label}@{name}") for name in stored.record["tests"]}
        yield Result(label, answers, stored.record["seconds"])


def stored_scores(stored: Run, name: str) -> BestScores:
    """Return the best scores of a label and test set. Runs before 0.2.0 have no `within_kind`."""
    arrays = {f.name: stored.array(f"{name}/{f.name}") for f in fields(BestScores) if f.name != "within_kind"}
    if f"{name}/within_kind" in stored.arrays:
        within_kind = stored.array(f"{name}/within_kind")
    else:
        within_kind = of_own_kind(*(arrays[f] for f in ("truth", "trained", "best_trained", "best_new")))
    return BestScores(**arrays, within_kind=within_kind)


def store_of(method: str, backbone: Backbone, out: Path) -> RunStore:
    """Return the store for a kind of method: `ablation` for "ablation-stock", `methods` for "stock"."""
    kind = method.split("-")[0] if "-" in method else "methods"
    return RunStore(out, f"{kind}-{_file_name(backbone.name)}")


@contextmanager
def counted_steps() -> Iterator[list[None]]:
    """Collect one entry per step of any optimiser: the iterations of a training, whatever its loop."""
    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    try:
        yield steps
    finally:
        hook.remove()


def facts(backbone: Backbone) -> dict[str, Any]:
    """Return the memory, machine and versions of a run."""
    return {
        "peak_bytes": _peak_bytes(backbone),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(backbone.device),
        },
        "backbone_sha256": backbone.sha256,
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def shots_of(trial: Trial) -> list[Example]:
    """Return the training images of a trial.

    Raises:
        BadDataSet: a class has no image, or the published draw is missing.
    """
    if trial.draws == "2sfs":
        return published_shots(trial.data, trial.trained, trial.shots, trial.seed)
    return draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)


def task_of(trial: Trial, backbone: Backbone) -> Task:
    """Return the task that a trial sets for a method."""
    shots = shots_of(trial)
    label_of = {label: i for i, label in enumerate(trial.trained)}
    return Task(
        backbone,
        [to_tensor(read_image(e.path, backbone, trial.exact_pixels)) for e in shots],
        [label_of[e.label] for e in shots],
        [trial.data.class_names[label] for label in trial.trained],
        (trial.template,) if trial.template else trial.data.templates,
        trial.seed,
        trial.data.name,
    )


def score_tests(predictor: Predictor, data: DataSet, trial: Trial, backbone: Backbone) -> Scores:
    """Score the test images of a data set, with all its classes as candidates.

    A predictor whose rule depends on the request is also asked for the trained and the new classes alone.
    """
    tests = tests_of(backbone, data, trial.exact_pixels)
    trained_classes = {trial.data.class_names[label] for label in trial.trained}
    trained = [label for label, name in enumerate(data.class_names) if name in trained_classes]

    def scores_for(labels: Sequence[int]) -> NDArray[np.float32]:
        return predictor.similarities(tests, [data.class_names[label] for label in labels]).float().numpy()

    everything = range(len(data.class_names))
    truth = np.array([e.label for e in data.test])
    alone = {}
    if getattr(predictor, "rule_depends_on_request", False):
        parts = {"of_trained": trained, "of_new": new_labels(len(everything), trained)}
        alone = {name: scores_for(labels) for name, labels in parts.items() if labels}
    return Scores(scores_for(everything), truth, tuple(trained), data.class_names, **alone)


def tests_of(backbone: Backbone, data: DataSet, exact_pixels: bool) -> Tests:
    """Return the test images of a data set."""
    return _tests(backbone, tuple(e.path for e in data.test), exact_pixels)


@lru_cache(maxsize=8)
def _tests(backbone: Backbone, paths: tuple[Path, ...], exact_pixels: bool) -> Tests:
    """Return the test images, shared by the trials of a data set so that they are decoded once."""
    return Tests(backbone, paths, exact_pixels)


def _peak_bytes(backbone: Backbone) -> int:
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")
