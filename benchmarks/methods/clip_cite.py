"""CLIP-CITE, run by the product's code.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.task import Predictor, Task, Tests
from core.clip.config import AdaptConfig, resolve_config
from core.clip.inference.request_rule import request_rule
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.prompts import class_indices
from core.clip.training.progress import Reporter
from core.clip.training.trainer import Recipe, fine_tune
from core.clip.weights.delta import Delta
from core.clip.weights.ensemble import interpolate
from core.clip.weights.support_set import encode_support_set


def clip_cite(task: Task) -> dict[str, Predictor]:
    """Train by the backbone's recipe.

    Returns:
        "CLIP-CITE, served": the ensemble with the product's rule for each request.
        "CLIP-CITE": the ensemble at the recipe's α, with the paper's scores.
        "CLIP-CITE, α = 1": the fine-tuned network, with the paper's scores.
    """
    config = config_of(task)
    theta_1 = train(task, config)
    network = ensemble(task, theta_1, config.alpha)
    return {
        "CLIP-CITE, served": Served(network, Delta("full", theta_1), config.alpha),
        "CLIP-CITE": network,
        "CLIP-CITE, α = 1": ensemble(task, theta_1, 1.0),
    }


def train(task: Task, config: AdaptConfig, recipe: Recipe | None = None) -> dict[str, Tensor]:
    """Return θ_1, fine-tuned on the task's images."""
    return fine_tune(
        task.backbone,
        task.tensors,
        task.labels,
        task.prompts(task.class_names),
        config,
        Reporter(),
        recipe=recipe,
    )


def ensemble(task: Task, theta_1: Mapping[str, Tensor], alpha: float) -> TwoTowers:
    theta = interpolate(tower_parameters(task.backbone.model), theta_1, alpha)
    return TwoTowers(task, with_parameters(task.backbone, theta))


@dataclass(frozen=True)
class Served:
    """An ensemble with the rule of `core.clip.inference.request_rule` for each request."""

    network: TwoTowers
    delta: Delta
    alpha: float
    rule_depends_on_request = True
    """A class's score depends on which other classes the request has."""

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        classes = class_indices(class_names, self.network.task.class_names)
        rule = request_rule(self.shots, self.network.head(class_names).cpu(), classes)
        return rule.scores(self.network.features(tests).cpu())

    @cached_property
    def shots(self) -> tuple[Tensor, Tensor]:
        """Features [S, D] and labels [S] of the support set."""
        task = self.network.task
        stored = encode_support_set(task.backbone, self.delta, task.tensors, task.labels)
        return stored.at(self.alpha), stored.labels


def config_of(task: Task, **settings: Any) -> AdaptConfig:
    """Return the recipe of the task's backbone, with the settings of the task and of an ablation."""
    known = {"backbone": task.backbone.name, "templates": tuple(task.templates), "seed": task.seed}
    return resolve_config(**{**known, **settings})
