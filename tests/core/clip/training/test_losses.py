"""The losses against the paper's equations, computed number by number: values and gradients."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.config import AdaptConfig, resolve_config
from core.clip.models.backbone import Backbone
from core.clip.models.features import build_zero_shot_classifier, encode_images, encode_tokens
from core.clip.training.losses import (
    Features,
    losses,
    similarity_distillation,
    supervised_contrastive,
    total_loss,
    visual_text_alignment,
)
from tests.core.clip.training.slow_losses import (
    SCALE,
    assert_same,
    batch,
    each_batch,
    features,
    pairs,
    slow_dva,
    slow_kl,
    slow_scl,
    value_and_gradients,
)


@each_batch
def test_visual_text_alignment(labels: list[int]) -> None:
    images, _, y = batch(labels)
    # W is a free parameter: the loss normalises it at every use.
    classifier = features(3, 4) * torch.tensor([[1.0], [0.5], [3.0], [7.0]], dtype=torch.float64)
    fast = value_and_gradients(lambda i, w: visual_text_alignment(i, w, y, SCALE), images, classifier)
    slow = value_and_gradients(lambda i, w: slow_dva(i, w, y, SCALE), images, classifier)
    assert_same(fast, slow)
    assert all(g.abs().max() > 1e-3 for g in fast[1:])


@each_batch
def test_supervised_contrastive(labels: list[int]) -> None:
    images, texts, y = batch(labels)
    fast = value_and_gradients(lambda i, t: supervised_contrastive(i, t, y, SCALE), images, texts)
    slow = value_and_gradients(lambda i, t: slow_scl(i, t, y, SCALE), images, texts)
    assert_same(fast, slow)


@each_batch
def test_similarity_distillation(labels: list[int]) -> None:
    images, texts, _ = batch(labels)
    teacher = features(4, len(labels)), features(5, 4)[labels]
    fast = value_and_gradients(
        lambda i, t, ti, tt: similarity_distillation(i, t, ti, tt, SCALE), images, texts, *teacher
    )
    slow = value_and_gradients(
        lambda i, t: slow_kl(pairs(i, t, SCALE), pairs(*teacher, SCALE)), images, texts
    )
    assert_same(fast[:3], slow)
    assert all((g == 0).all() for g in fast[3:])  # p̂ is detached.
    if len(set(labels)) > 1:
        other_direction = slow_kl(pairs(*teacher, SCALE), pairs(images, texts, SCALE))
        assert abs(fast[0] - other_direction) > 0.01


def test_the_losses_stay_finite_at_clips_temperature_in_fp32() -> None:
    # Softmax probabilities underflow to 0 here; p log p must not become NaN.
    images = F.normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), dim=-1).requires_grad_()
    texts = images.detach().clone().requires_grad_()
    y = torch.tensor([0, 1, 1])
    named = losses(Features(images, texts), Features(-images, texts), -texts, y, 100.0)
    total = total_loss(named, resolve_config())
    total.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(total)
    assert torch.isfinite(images.grad).all()  # type: ignore[arg-type]
    assert torch.isfinite(texts.grad).all()  # type: ignore[arg-type]


def test_total_loss_is_the_weighted_sum() -> None:
    images, texts, y = batch([1, 0, 1, 2])
    named = losses(Features(images, texts), Features(texts, images), features(3, 4), y, SCALE)
    weights: dict[str, Any] = {
        f"{name}_weight": 0.3 + number for number, name in enumerate(named) if name != "dva"
    }
    assert set(weights) == {field for field in AdaptConfig.model_fields if field.endswith("_weight")}
    expected = named["dva"] + sum(weights[f"{name}_weight"] * named[name] for name in named if name != "dva")
    assert total_loss(named, resolve_config(**weights)).item() == pytest.approx(float(expected))
    assert all(abs(loss) > 0.01 for loss in named.values())


class Towers:
    """Gradients of one loss in a real model, per tower."""

    def __init__(self, tiny: Backbone) -> None:
        self.tiny = tiny
        self.student: nn.Module = copy.deepcopy(tiny.model).requires_grad_(True)
        with torch.no_grad():  # Away from θ_0, where L_VLD has its minimum.
            for parameter in self.student.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) / 50)
        texts = [["a cat"], ["a dog"], ["a tree"]]
        self.tokens = tiny.tokenize([text for of_class in texts for text in of_class])
        self.pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        self.y = torch.tensor([0, 1, 2, 1])
        self.classifier = nn.Parameter(build_zero_shot_classifier(tiny.model, tiny.tokenize, texts))
        self.images = encode_images(self.student, self.pixels)
        self.texts = encode_tokens(self.student, self.tokens)[self.y]

    def gradients_of(self, loss: Tensor) -> dict[str, float]:
        """Return the largest gradient in each part."""
        parameters = dict(self.student.named_parameters())
        gradients = torch.autograd.grad(
            loss, [*parameters.values(), self.classifier], allow_unused=True, retain_graph=True
        )
        largest = {"image": 0.0, "text": 0.0, "scale": 0.0}
        for name, gradient in zip(parameters, gradients[:-1], strict=True):
            part = "image" if name.startswith("visual.") else "scale" if name == "logit_scale" else "text"
            largest[part] = max(largest[part], 0.0 if gradient is None else float(gradient.abs().max()))
        largest["classifier"] = 0.0 if gradients[-1] is None else float(gradients[-1].abs().max())
        return largest


def test_which_loss_reaches_which_tower(tiny: Backbone) -> None:
    towers = Towers(tiny)
    scale = tiny.logit_scale
    dva = towers.gradients_of(visual_text_alignment(towers.images, towers.classifier, towers.y, scale))
    assert dva["text"] == 0
    assert min(dva["image"], dva["classifier"]) > 1e-4
    scl = towers.gradients_of(supervised_contrastive(towers.images, towers.texts, towers.y, scale))
    with torch.no_grad():
        teacher = encode_images(tiny.model, towers.pixels), encode_tokens(tiny.model, towers.tokens)[towers.y]
    vld = towers.gradients_of(similarity_distillation(towers.images, towers.texts, *teacher, scale))
    for gradients in (scl, vld):
        assert min(gradients["image"], gradients["text"]) > 1e-4
        assert gradients["classifier"] == 0
    assert all(gradients["scale"] == 0 for gradients in (dva, scl, vld))  # The temperature is frozen.
