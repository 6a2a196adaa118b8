"""Predictors and classifiers shared by several methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from benchmarks.methods.common.task import Task, Tests
from core.clip.models.features import build_zero_shot_classifier
from core.clip.prompts import class_indices


@dataclass(frozen=True, eq=False)
class TwoTowers:
    """A predictor by both towers of a network, for any classes. The network no longer changes."""

    task: Task
    model: nn.Module

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        return (self.features(tests) @ self.head(class_names).T).cpu()

    def head(self, class_names: Sequence[str]) -> Tensor:
        """Return the text features [C, D] of the classes."""
        return build_zero_shot_classifier(
            self.model, self.task.backbone.tokenize, self.task.prompts(class_names)
        )

    @lru_cache(maxsize=1)  # noqa: B019 - predictors of the same network run in sequence
    def features(self, tests: Tests) -> Tensor:
        return tests.features(self.model)


def stock_head(task: Task, class_names: Sequence[str]) -> Tensor:
    """Return the zero-shot classifier [C, D] of the pre-trained text tower."""
    return build_zero_shot_classifier(task.backbone.model, task.backbone.tokenize, task.prompts(class_names))


def trained_columns(task: Task, class_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return (columns, classes), both [T]: trained columns of `class_names`, and their classes in the task.

    With W [trained classes, D] and a head [C, D]: head[columns] = W[classes].
    """
    classes = torch.tensor(class_indices(class_names, task.class_names), dtype=torch.long)  # [C]
    columns = (classes >= 0).nonzero().flatten()
    return columns, classes[columns]
