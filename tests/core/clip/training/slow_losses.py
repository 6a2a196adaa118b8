"""The losses of the paper number by number, and batches for them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

D = 5


SCALE = 14.0


BATCHES = {
    "all classes differ": [3, 0, 2, 1],
    "repeated classes": [1, 0, 1, 1, 2, 0],
    "one class": [2, 2, 2],
    "one image": [1],
}


each_batch = pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())


def features(seed: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, D, generator=generator, dtype=torch.float64), dim=-1)


def batch(labels: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return image features, text features (one prompt per class, as in training) and labels."""
    return features(1, len(labels)), features(2, 4)[labels], torch.tensor(labels)


def value_and_gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    value.backward()  # type: ignore[no-untyped-call]
    return [value.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)]


def assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def dot(a: Tensor, b: Tensor) -> Tensor:
    return sum((x * y for x, y in zip(a, b, strict=True)), torch.tensor(0.0, dtype=a.dtype))


def slow_dva(images: Tensor, classifier: Tensor, labels: Tensor, scale: float) -> Tensor:
    losses = []
    for image, label in zip(images, labels.tolist(), strict=True):
        weights = [(scale * dot(image, w / dot(w, w).sqrt())).exp() for w in classifier]
        losses.append(-(weights[label] / sum(weights)).log())
    return sum(losses) / len(losses)  # type: ignore[return-value]


def slow_scl(images: Tensor, texts: Tensor, labels: Tensor, scale: float) -> Tensor:
    classes = labels.tolist()
    total = torch.tensor(0.0, dtype=images.dtype)
    for i in range(len(classes)):
        # The denominators of eq. 4: the pair itself, and all images (prompts) of other classes.
        rivals = [j for j in range(len(classes)) if j == i or classes[j] != classes[i]]
        positive = (scale * dot(images[i], texts[i])).exp()
        to_texts = sum((scale * dot(images[i], texts[j])).exp() for j in rivals)
        to_images = sum((scale * dot(images[j], texts[i])).exp() for j in rivals)
        total = total - (positive / to_texts).log() / 2 - (positive / to_images).log() / 2
    return total / len(classes)


def slow_kl(student: list[list[Tensor]], teacher: list[list[Tensor]]) -> Tensor:
    """Return the mean over the rows of KL(softmax(student) || softmax(teacher))."""
    total = torch.tensor(0.0, dtype=torch.float64)
    for row, teacher_row in zip(student, teacher, strict=True):
        for logit, teacher_logit in zip(row, teacher_row, strict=True):
            p = logit.exp() / sum(x.exp() for x in row)
            p_hat = teacher_logit.exp() / sum(x.exp() for x in teacher_row)
            total = total + p * (p.log() - p_hat.log())
    return total / len(student)


def pairs(images: Tensor, texts: Tensor, scale: float) -> list[list[Tensor]]:
    return [[scale * dot(image, text) for text in texts] for image in images]
