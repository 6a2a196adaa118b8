"""Features of trainings at several α, so that a rule of inference is scored without a training.

    python -m benchmarks.accuracy.encodings --data clothing cifar10 stamps --setting bng --first-split 50
    --splits 4 --tests 60 --unrelated imagenet

Each trial is trained by the product's recipe. Its run in --out/features-BACKBONE holds, at each α of
--alphas, the features of the test images, of the shots and of the prompts of all classes. With --unrelated
(`benchmarks.data.prepare imagenet`), it also holds those of the images of that folder. Scores [N, C] are
image features times text features.

A stored run is not repeated.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.harness import Trial, facts, task_of, tests_of
from benchmarks.accuracy.paper import load_for, parser, read_trials
from benchmarks.methods.clip_cite import config_of, train
from benchmarks.methods.common.task import Task, Tests
from benchmarks.run_store import Run, RunStore
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.weights.ensemble import interpolate

ALPHAS = (0.0, 0.5, 1.0)
Array = NDArray[Any]


@dataclass(frozen=True)
class Encodings:
    """The features of one training. Dictionaries are by α, features float32 and normalised."""

    class_names: tuple[str, ...]
    trained: tuple[int, ...]
    """Labels of the trained classes."""
    truth: Tensor
    """[N], labels of the test images."""
    shot_labels: Tensor
    """[S], positions in `trained`."""
    images: Mapping[float, Tensor]
    """[N, D]."""
    shots: Mapping[float, Tensor]
    """[S, D]."""
    texts: Mapping[float, Tensor]
    """[C, D]."""
    unrelated_truth: Tensor
    """[M], numbers; empty without unrelated images."""
    unrelated_images: Mapping[float, Tensor]

    @property
    def classes(self) -> list[int]:
        """Trained class of each class, -1 for a new one."""
        place = {label: i for i, label in enumerate(self.trained)}
        return [place.get(label, -1) for label in range(len(self.class_names))]


def store_of(backbone: Backbone, out: Path) -> RunStore:
    return RunStore(out, f"features-{backbone.name.replace('/', '_')}")


def read(run: Run) -> Encodings:
    """Return the features of a stored run."""
    unrelated = "unrelated_truth" in run.arrays

    def by_alpha(kind: str) -> dict[float, Tensor]:
        tensors = {
            float(name.removeprefix(f"{kind}@")): torch.from_numpy(run.array(name).astype(np.float32))
            for name in run.arrays
            if name.startswith(f"{kind}@")
        }
        return {alpha: nn.functional.normalize(t, dim=-1) for alpha, t in tensors.items()}

    return Encodings(
        tuple(run.array("class_names").tolist()),
        tuple(run.array("trained").tolist()),
        torch.from_numpy(run.array("truth")),
        torch.from_numpy(run.array("shot_labels")),
        by_alpha("images"),
        by_alpha("shots"),
        by_alpha("texts"),
        torch.from_numpy(run.array("unrelated_truth")) if unrelated else torch.zeros(0, dtype=torch.long),
        by_alpha("unrelated_images"),
    )


def encode(
    trial: Trial, backbone: Backbone, unrelated: Path | None, alphas: Sequence[float] = ALPHAS
) -> tuple[float, dict[str, Array]]:
    """Train; return the seconds of the training and the arrays of the run. α 0 is one of `alphas`."""
    (data,) = trial.tests
    task = task_of(trial, backbone)
    started = time.monotonic()
    theta_1 = train(task, config_of(task))
    seconds = time.monotonic() - started
    arrays: dict[str, Array] = {
        "class_names": np.array(data.class_names),
        "trained": np.array(trial.trained),
        "truth": np.array([e.label for e in data.test]),
        "shot_labels": np.array(task.labels),
    }
    tests = tests_of(backbone, data, trial.exact_pixels)
    theta_0 = tower_parameters(backbone.model)
    if unrelated is not None:
        arrays["unrelated_truth"] = np.arange(len(_unrelated(backbone, unrelated).paths))
    for alpha in alphas:
        network = with_parameters(backbone, interpolate(theta_0, theta_1, alpha))
        arrays[f"texts@{alpha}"] = _half(_texts(network, task, data.class_names))
        # `features` fuses the BatchNorm of `network`, which computes the same function.
        images = tests.features(network) if alpha else tests.stock_features
        arrays[f"images@{alpha}"] = _half(images)
        arrays[f"shots@{alpha}"] = _half(task.features(network))
        if unrelated is not None and alpha:
            arrays[f"unrelated_images@{alpha}"] = _half(_unrelated(backbone, unrelated).features(network))
    if unrelated is not None:
        arrays["unrelated_images@0.0"] = _half(_unrelated(backbone, unrelated).stock_features)
    return seconds, arrays


def _half(features: Tensor) -> Array:
    return features.cpu().numpy().astype(np.float16)


def _texts(network: nn.Module, task: Task, names: Sequence[str]) -> Tensor:
    return build_zero_shot_classifier(network, task.backbone.tokenize, task.prompts(names))


@lru_cache(maxsize=1)
def _unrelated(backbone: Backbone, folder: Path) -> Tests:
    return Tests(backbone, tuple(sorted((folder / "test").glob("*/*"))))


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line().parse_args(arguments)
    backbone = load_for(options)
    store = store_of(backbone, options.out)
    for trial in sorted(read_trials(options), key=lambda trial: trial.split):
        key = trial.key("features")
        if store.get(key) is not None:
            continue
        seconds, arrays = encode(trial, backbone, options.unrelated, sorted({0.0, *options.alphas}))
        store.add(key, {"seconds": seconds, **facts(backbone)}, arrays)
        print(key, flush=True)


def command_line() -> argparse.ArgumentParser:
    options = parser(__doc__, ["clip_cite"])
    options.add_argument("--unrelated", type=Path, help="folder of images of ImageNet's classes")
    options.add_argument("--alphas", type=float, nargs="+", default=ALPHAS, help="α besides 0")
    return options


if __name__ == "__main__":
    main()
