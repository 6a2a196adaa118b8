"""Instant preview: prototypes of the frozen backbone, blended with its prompts, without training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.methods.common.answerers import stock_head
from benchmarks.methods.common.task import Predictor, Task, Tests
from core.clip.inference import prototypes as product
from core.clip.prompts import class_indices


@dataclass(frozen=True)
class Prototypes:
    task: Task
    preview: product.PrototypeClassifier
    rule_depends_on_request = True

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        """Return the scores of one request for all classes, as the product does by default."""
        classes = class_indices(class_names, self.task.class_names)
        rule = self.preview.rule(stock_head(self.task, class_names), classes)
        return rule.scores(tests.stock_features).cpu()


def preview(task: Task) -> dict[str, Predictor]:
    features = task.features(task.backbone.model)
    labels = torch.tensor(task.labels, device=features.device)
    return {"Preview": Prototypes(task, product.PrototypeClassifier(features, labels))}
