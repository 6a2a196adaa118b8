"""Linear probe: logistic regression on the frozen image features.

A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv 2103.00020, section 3.2. It predicts only its trained classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.common.answerers import trained_columns
from benchmarks.methods.common.task import Predictor, Task, Tests


@dataclass(frozen=True)
class LinearProbe:
    c: float = 31.6
    """Weight of the data against the L2 penalty (scikit-learn's C).

    The paper sweeps C on a validation set, which few-shot tasks lack. The CLIP repository's example uses
    0.316 for features that are not normalised. CLIP's features have a length of about 10, so the equivalent C
    for normalised features is 0.316 · 10².
    """
    max_iterations: int = 1_000


@dataclass(frozen=True)
class ClosedHead:
    task: Task
    weight: Tensor  # [K, D]
    bias: Tensor  # [K]

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        logits = tests.stock_features @ self.weight.T + self.bias  # [N, K]
        columns, classes = trained_columns(self.task, class_names)
        scores = torch.full((len(logits), len(class_names)), -torch.inf)
        scores[:, columns] = logits.cpu()[:, classes] / self.task.backbone.logit_scale
        return scores


def linear_probe(task: Task, settings: LinearProbe | None = None) -> dict[str, Predictor]:
    """Train on the images without augmentation, as in the paper. New classes score -inf."""
    settings = settings or LinearProbe()
    backbone = task.backbone
    features = task.features(backbone.model)
    labels = torch.tensor(task.labels, device=features.device)
    weight, bias = logistic_regression(
        features, labels, len(task.class_names), settings.c, settings.max_iterations
    )
    return {"Linear probe": ClosedHead(task, weight, bias)}


def logistic_regression(
    features: Tensor, labels: Tensor, classes: int, c: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """Return the weight [K, D] and bias [K] that minimise C Σ cross-entropy + ½ |weight|², by L-BFGS.

    Args:
        features: [N, D].
        labels: [N].
    """
    x = features.double()  # the line search compares losses that differ only in their last fp32 digits
    weight = x.new_zeros(classes, x.shape[1]).requires_grad_(True)
    bias = x.new_zeros(classes).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        tolerance_grad=1e-6,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = F.cross_entropy(x @ weight.T + bias, labels, reduction="sum")
        value = c * error + weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach().float(), bias.detach().float()
