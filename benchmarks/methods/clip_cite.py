"""CLIP-CITE as the product runs it.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.task import Answerer, Task, Tests
from core.clip.config import AdaptConfig, resolve_config
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE, class_offsets
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.prompts import class_indices
from core.clip.training.progress import Silent
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import Delta, full_delta
from core.clip.weights.ensemble import interpolate
from core.clip.weights.support_set import SupportSet, encode_support_set


def clip_cite(task: Task) -> dict[str, Answerer]:
    """With the backbone's recipe: "CLIP-CITE" is the ensemble at its α, "CLIP-CITE, α = 1" the
    fine-tuned network itself, both with the paper's scores, and "CLIP-CITE, balanced" the ensemble as
    the product answers by default. Calls `task.watch` with the ensemble after every epoch."""
    config = config_of(task)

    def after_epoch(epoch: int, theta: Mapping[str, Tensor]) -> None:
        if task.watch is not None:
            task.watch(epoch, config.epochs, ensemble(task, theta, config.alpha))

    theta_1 = fine_tune(
        task.backbone,
        task.tensors,
        task.labels,
        task.prompts(task.class_names),
        config,
        Silent(),
        after_epoch=after_epoch,
    ).theta_1
    network = ensemble(task, theta_1, config.alpha)
    return {
        "CLIP-CITE, balanced": Balanced(task, network, full_delta(theta_1), config.alpha, NEW_CLASS_BALANCE),
        "CLIP-CITE": network,
        "CLIP-CITE, α = 1": ensemble(task, theta_1, 1.0),
    }


def ensemble(task: Task, theta_1: Mapping[str, Tensor], alpha: float) -> TwoTowers:
    theta = interpolate(tower_parameters(task.backbone.model), theta_1, alpha)
    return TwoTowers(task, with_parameters(task.backbone, theta))


@dataclass(frozen=True)
class Balanced:
    """An ensemble whose names have their offsets taken off, as core.clip.inference.classifier does it."""

    task: Task
    network: TwoTowers
    delta: Delta
    alpha: float
    balance: float

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        head = build_zero_shot_classifier(
            self.network.model, self.task.backbone.tokenize, self.task.prompts(class_names)
        ).cpu()
        classes = class_indices(class_names, self.task.class_names)
        of_shots, labels = self._shots.at(self.alpha), self._shots.labels
        offsets = class_offsets(of_shots, labels, head, classes, self.balance)
        return self.network.similarities(tests, class_names) - offsets

    @cached_property
    def _shots(self) -> SupportSet:
        return encode_support_set(self.task.backbone, self.delta, self.task.tensors, self.task.labels)


def config_of(task: Task, **given: Any) -> AdaptConfig:
    """The recipe of the task's backbone, with what the task and an ablation say."""
    known = {"backbone": task.backbone.name, "templates": tuple(task.templates), "seed": task.seed}
    return resolve_config(**{**known, **given})
