"""One adaptation with its report and its scores on the large test set, stored for later analysis."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.harness import Trial, facts
from benchmarks.data.dataset import Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.run_store import RunStore
from benchmarks.trust.asking import AMONG, best_names, score_test_images
from clipcite.types.images import Image
from core.clip.config import AdaptConfig, resolve_config
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.models.backbone import Backbone
from core.clip.pipeline import adapt

KINDS = ("real", "shuffled", "planted", "cost")
PLANTED = 0.1


@dataclass(frozen=True)
class Record:
    """A stored run."""

    plain: dict[str, Any]
    """Figures of the report, seconds and settings."""
    arrays: Mapping[str, NDArray[Any]]
    """Predictions of the fold models and, for a real run, scores on the test set; see `run`."""

    def save(self, store: RunStore, key: str) -> None:
        matrices = {name: array for name, array in self.arrays.items() if name.startswith(AMONG)}
        others = {name: array for name, array in self.arrays.items() if name not in matrices}
        store.add(key, self.plain, others, matrices)

    @classmethod
    def load(cls, store: RunStore, key: str) -> "Record | None":
        """Return None if the run is not stored."""
        if (run := store.get(key)) is None:
            return None
        arrays = {name: run.array(name) for name in run.arrays}
        return cls(dict(run.record), arrays | {name: run.scores(name) for name in run.matrices})


def run(kind: str, trial: Trial, backbone: Backbone) -> Record:
    """Run one adaptation with its report.

    The record has these arrays, for N held-out images and K trained classes:

        held_truth [N]: labels.
        held_alone_A [N, K]: scores of the trained classes, for A = 0 and the served α.
        held_named_A [N, 2]: the best trained class, and the best with 20 distractors.

    A real run adds the arrays of `asking.score_test_images`.
    """
    names = [trial.data.class_names[label] for label in trial.trained]
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    labels, planted = relabelled(kind, trial, examples)
    config = config_of(trial, backbone)
    shots = [
        Image(example.path, trial.data.class_names[label])
        for example, label in zip(examples, labels, strict=True)
    ]
    # In the order of the labels, like the trained classes below.
    order = sorted(range(len(shots)), key=lambda i: labels[i])
    started = time.monotonic()
    adapted = adapt(backbone, [shots[i] for i in order], config)
    seconds = time.monotonic() - started
    report = adapted.evaluation.report
    assert report is not None
    label_issues = {order[s.position] for s in report.label_issues}
    plain: dict[str, Any] = {
        "kind": kind,
        "data": trial.data.name,
        "split": trial.split,
        "seconds": seconds,
        "report_seconds": seconds - adapted.seconds,
        "training_seconds": adapted.seconds,
        "threads": torch.get_num_threads(),
        **facts(backbone),
        **report.model_dump(include={"verdict", "measured_on", "trained_classes"}),
        "alpha": config.alpha,
        "logit_scale": backbone.logit_scale,
        "calibration": adapted.evaluation.stored_metrics()["calibration"],
        "planted": len(planted),
        "found": len(planted & label_issues),
        "label_issues": len(label_issues),
    }
    assert adapted.evaluation.held_out is not None
    arrays = _held_out_arrays(adapted.evaluation.held_out, config.alpha)
    if kind == "real":
        more = [name for name in trial.data.class_names if name not in names]
        arrays.update(score_test_images(backbone, adapted, more, trial, config))
    return Record(plain, arrays)


def config_of(trial: Trial, backbone: Backbone) -> AdaptConfig:
    """Return the recipe at the backbone's image size, with the templates and the seed of the trial."""
    return resolve_config(
        backbone=backbone.name,
        image_size=backbone.image_size,
        templates=tuple(trial.data.templates),
        seed=trial.seed,
    )


def relabelled(kind: str, trial: Trial, examples: Sequence[Example]) -> tuple[list[int], set[int]]:
    """Return the label of each image, and the indices of the planted ones."""
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


def _held_out_arrays(held: HeldOutPredictions, alpha: float) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"held_truth": held.truth.astype(np.uint8)}
    for at, scores in ((0.0, held.stock), (alpha, held.adapted)):
        arrays[f"held_alone_{at}"] = scores.trained_only.astype(np.float32)
        arrays[f"held_named_{at}"] = best_names(scores.trained_only, scores.all_classes)
    return arrays
