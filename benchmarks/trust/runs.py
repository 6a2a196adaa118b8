"""One adaptation with its report, and what the large test set says: all of it kept, to be judged later."""

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
from benchmarks.trust.asking import AMONG, asked, best_names
from core.clip.config import resolve_config
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.models.backbone import Backbone
from core.clip.pipeline import Shot, adapt

KINDS = ("real", "shuffled", "planted", "cost")
PLANTED = 0.1


@dataclass(frozen=True)
class Record:
    """What is kept of a run."""

    plain: dict[str, Any]
    """What the report says, and how long it took."""
    arrays: Mapping[str, NDArray[Any]]
    """What siblings answered, and of a real run what the model says of the test set; see `run`."""

    def save(self, store: RunStore, key: str) -> None:
        matrices = {name: array for name, array in self.arrays.items() if name.startswith(AMONG)}
        others = {name: array for name, array in self.arrays.items() if name not in matrices}
        store.add(key, self.plain, others, matrices)

    @classmethod
    def load(cls, store: RunStore, key: str) -> "Record | None":
        """Return None if the run was not made yet."""
        if (run := store.get(key)) is None:
            return None
        arrays = {name: run.array(name) for name in run.arrays}
        return cls(dict(run.record), arrays | {name: run.scores(name) for name in run.matrices})


def run(kind: str, trial: Trial, backbone: Backbone) -> Record:
    """Arrays, for N images that siblings were asked about and K trained names:

        held_truth [N]; for each α that siblings were asked at, held_alone_A [N, K],
        held_in_distribution_A [N], and held_named_A [N, 2], as held_named_preview: the best of the trained
        classes, and with 20 others

    and of a real run what `asking.asked` says of the test images.
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
    report = adapted.evaluation.report
    assert report is not None
    label_issues = {order[s.position] for s in report.label_issues}
    plain: dict[str, Any] = {
        "kind": kind,
        "data": trial.data.name,
        "split": trial.split,
        "seconds": time.monotonic() - started,
        "report_seconds": report.seconds["report"],
        "training_seconds": report.seconds["training"],
        "threads": torch.get_num_threads(),
        **facts(backbone),
        "verdict": report.verdict,
        "measured_on": dict(report.measured_on),
        "trained_classes": None if report.trained_classes is None else report.to_dict()["trained_classes"],
        "alpha": config.alpha,
        "logit_scale": backbone.logit_scale,
        "calibration": adapted.evaluation.metrics["calibration"],
        "planted": len(planted),
        "found": len(planted & label_issues),
        "label_issues": len(label_issues),
    }
    assert adapted.evaluation.held_out is not None
    arrays = _of_siblings(adapted.evaluation.held_out)
    if kind == "real":
        more = [name for name in trial.data.class_names if name not in names]
        arrays.update(asked(backbone, adapted, more, trial, config))
    return Record(plain, arrays)


def relabelled(kind: str, trial: Trial, examples: Sequence[Example]) -> tuple[list[int], set[int]]:
    """(the label of each image, which of them are planted)."""
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


def _of_siblings(held: HeldOutPredictions) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "held_truth": held.truth.astype(np.uint8),
        "held_named_preview": best_names(held.preview.trained_only, held.preview.all_classes),
    }
    for alpha, answers in held.curve.items():
        arrays[f"held_alone_{alpha}"] = answers.trained_only.astype(np.float32)
        arrays[f"held_named_{alpha}"] = best_names(answers.trained_only, answers.all_classes)
        if answers.in_distribution_score is not None:
            arrays[f"held_in_distribution_{alpha}"] = answers.in_distribution_score.astype(np.float32)
    return arrays
