"""One adaptation with its report, and what the large test set says: all of it kept, to be judged later."""

import json
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

from benchmarks.data.dataset import Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.harness import Trial
from core.clip.adapt import Adapted, Shot, adapt
from core.clip.answers import HeldOut, batches
from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.config import AdaptConfig, resolve_config
from core.clip.probe import other_names
from core.clip.prompts import class_texts
from core.clip.zero_shot import image_features, text_head

KINDS = ("real", "shuffled", "planted", "cost")
PLANTED = 0.1


@dataclass(frozen=True)
class Record:
    """What is kept of a run."""

    plain: dict[str, Any]
    """What the report says, and how long it took."""
    arrays: Mapping[str, NDArray[Any]]
    """What siblings answered, and of a real run the features of the test set; see `run`."""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "trust.npz", allow_pickle=False, **self.arrays)
        (folder / "trust.json").write_text(json.dumps(self.plain, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Record | None":
        """None if the run is not done yet."""
        if not (folder / "trust.json").exists():
            return None
        with np.load(folder / "trust.npz") as stored:
            arrays = dict(stored)
        return cls(json.loads((folder / "trust.json").read_text(encoding="utf-8")), arrays)


def run(kind: str, trial: Trial, backbone: Backbone) -> Record:
    """Arrays, for N pictures that siblings were asked about, and of a real run T test pictures, S shots, K
    trained names, the C names of the data set, trained ones first, and O of ImageNet's after them:

        held_truth [N]; held_alone_A, held_among_A [N, K], [N, K + 20] for each α that siblings were asked at;
        held_preview [N, K]
        truth [T]; pictures_A [T, D] and head_A [C + O, D] for α 0, 0.5 and the one that `auto` takes
        shots [3, S, D], shot_labels [S]: what the model keeps
    """
    names = [trial.data.class_names[label] for label in trial.trained]
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    labels, planted = relabelled(kind, trial, examples)
    config = resolve_config(
        backbone=backbone.name,
        image_size=backbone.image_size,
        templates=tuple(trial.data.templates),
        seed=trial.seed,
    )
    shots = [
        Shot(example.path, trial.data.class_names[label])
        for example, label in zip(examples, labels, strict=True)
    ]
    # In the order of the labels, as the trained names are counted below.
    order = sorted(range(len(shots)), key=lambda i: labels[i])
    started = time.monotonic()
    adapted = adapt(backbone, [shots[i] for i in order], config)
    report = adapted.report
    assert report is not None
    suspects = {order[s.position] for s in report.suspects}
    plain: dict[str, Any] = {
        "kind": kind,
        "data": trial.data.name,
        "split": trial.split,
        "seconds": time.monotonic() - started,
        "report_seconds": report.seconds["report"],
        "training_seconds": report.seconds["training"],
        "threads": torch.get_num_threads(),
        "verdict": report.verdict,
        "measured_on": dict(report.measured_on),
        "trained_names": None if report.trained_names is None else report.to_dict()["trained_names"],
        "auto": report.alpha_auto,
        "alpha": adapted.alpha,
        "logit_scale": backbone.logit_scale,
        "confidence": adapted.metrics["confidence"],
        "planted": len(planted),
        "found": len(planted & suspects),
        "suspects": len(suspects),
    }
    assert adapted.held is not None
    arrays = _of_siblings(adapted.held)
    if kind == "real":
        more = [name for name in trial.data.class_names if name not in names]
        arrays.update(_of_tests(backbone, adapted, more, trial, config))
    return Record(plain, arrays)


def relabelled(kind: str, trial: Trial, examples: Sequence[Example]) -> tuple[list[int], set[int]]:
    """(the label of each picture, which of them are planted)."""
    labels = [example.label for example in examples]
    generator = np.random.default_rng(1000 + trial.seed)
    if kind == "shuffled":
        return generator.permutation(labels).tolist(), set()
    if kind != "planted":
        return labels, set()
    chosen = generator.choice(len(labels), size=max(1, round(PLANTED * len(labels))), replace=False)
    for i in chosen:
        others = [label for label in trial.trained if label != labels[i]]
        labels[i] = int(generator.choice(others))
    return labels, {int(i) for i in chosen}


def _of_siblings(held: HeldOut) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"held_truth": held.truth, "held_preview": held.preview.alone}
    for alpha, answers in held.curve.items():
        arrays[f"held_alone_{alpha}"], arrays[f"held_among_{alpha}"] = answers.alone, answers.among
    return arrays


def _of_tests(
    backbone: Backbone, adapted: Adapted, more: Sequence[str], trial: Trial, config: AdaptConfig
) -> dict[str, NDArray[Any]]:
    """The names of the other half, `more`, are new."""
    shots = adapted.weights.shots
    assert shots is not None
    names = [*adapted.class_names, *more]
    texts = [class_texts(name, config.templates) for name in (*names, *other_names(names))]
    paths = tuple(example.path for example in trial.data.test)
    arrays: dict[str, NDArray[Any]] = {
        "truth": np.array([names.index(trial.data.class_names[e.label]) for e in trial.data.test]),
        "shots": shots.features.float().numpy(),
        "shot_labels": shots.labels.numpy(),
    }
    auto = 0.5 if adapted.report is None else adapted.report.alpha_auto
    for alpha in sorted({0.0, 0.5, 0.5 if auto is None else auto}):
        model = backbone.model
        if alpha:
            theta = adapted.weights.theta(tower_parameters(backbone.model), alpha)
            model = with_parameters(backbone, theta)
        features = _features(model, backbone, paths) if alpha else _stock_features(backbone, paths)
        arrays[f"pictures_{alpha}"] = features.numpy()
        arrays[f"head_{alpha}"] = text_head(model, backbone.tokenize, texts).cpu().numpy()
    return arrays


def _features(model: nn.Module, backbone: Backbone, paths: Sequence[Path]) -> Tensor:
    """[T, D]."""
    return torch.cat([image_features(model, pixels).cpu() for pixels in batches(backbone, paths)])


@lru_cache(maxsize=8)
def _stock_features(backbone: Backbone, paths: tuple[Path, ...]) -> Tensor:
    """The same for all runs of a data set."""
    return _features(backbone.model, backbone, paths)
