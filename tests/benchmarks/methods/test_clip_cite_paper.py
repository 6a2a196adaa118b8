"""The paper's recipe: eq. 4 as printed, number by number, and what each change of the recipe is."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.methods import clip_cite_paper
from benchmarks.methods.clip_cite_paper import (
    PRINTED_SCL_WEIGHT,
    RECIPES,
    flipped_crop,
    paper_config,
    supervised_contrastive_as_printed,
    warm_up,
)
from benchmarks.methods.common import task as given
from core.clip.config import AdaptConfig, resolve_config
from core.clip.data.transforms import random_resized_crop
from core.clip.models.backbone import tower_parameters
from core.clip.training.losses import supervised_contrastive, total_loss
from core.clip.training.progress import Reporter
from core.clip.training.trainer import Recipe, cosine, fine_tune
from tests.core.clip.training.slow_losses import (
    SCALE,
    assert_same,
    batch,
    dot,
    each_batch,
    value_and_gradients,
)


def slow_printed(images: Tensor, texts: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Compute eq. 4 as printed, with its mean over the batch: −log of positive over the other classes."""
    classes = labels.tolist()
    total = (images * 0).sum() + (texts * 0).sum()
    for i in range(len(classes)):
        rivals = [j for j in range(len(classes)) if classes[j] != classes[i]]
        if not rivals:
            continue
        positive = (scale * dot(images[i], texts[i])).exp()
        to_texts = sum((scale * dot(images[i], texts[j])).exp() for j in rivals)
        to_images = sum((scale * dot(images[j], texts[i])).exp() for j in rivals)
        total = total - (positive / to_texts).log() / 2 - (positive / to_images).log() / 2
    return total / len(classes)


@each_batch
def test_as_printed_equals_the_plain_loops(labels: list[int]) -> None:
    images, texts, y = batch(labels)
    assert_same(
        value_and_gradients(lambda i, t: supervised_contrastive_as_printed(i, t, y, SCALE), images, texts),
        value_and_gradients(lambda i, t: slow_printed(i, t, y, SCALE), images, texts),
    )


@pytest.mark.parametrize("cosine_of_pair", [-1.0, 0.2, 0.999])
def test_as_printed_the_pull_on_a_positive_never_ends(cosine_of_pair: float) -> None:
    """Its gradient on the logit of the positive is −1 for any value; the product's is −(1 − p)."""
    x = torch.tensor(cosine_of_pair, dtype=torch.float64, requires_grad=True)
    images = torch.eye(2, dtype=torch.float64)
    texts = torch.stack(
        [torch.stack([x, torch.zeros_like(x)]), torch.tensor([0.0, 0.3], dtype=torch.float64)]
    )
    y = torch.tensor([0, 1])

    def slope(loss: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> float:
        """Return the gradient of the first image's share of the loss on its own logit."""
        (gradient,) = torch.autograd.grad(loss(images, texts, y, SCALE), x, retain_graph=True)
        return float(gradient) * len(y) / SCALE

    p = math.exp(SCALE * cosine_of_pair) / (math.exp(SCALE * cosine_of_pair) + 1)  # Each rival's cosine is 0.
    assert slope(supervised_contrastive_as_printed) == pytest.approx(-1)
    assert slope(supervised_contrastive) == pytest.approx(-(1 - p))


def test_weight_1_4_is_the_printed_sum_of_both_directions() -> None:
    images, texts, y = batch([1, 0, 1, 1, 2, 0])
    logits = SCALE * images @ texts.T
    same = (y[:, None] == y[None, :]).fill_diagonal_(False)
    each_way = [
        -direction.masked_fill(same, float("-inf")).log_softmax(dim=1).diagonal().mean()
        for direction in (logits, logits.T)
    ]
    nothing = torch.zeros((), dtype=torch.float64)
    parts = {"dva": nothing, "scl": supervised_contrastive(images, texts, y, SCALE), "vld": nothing}
    ours = total_loss(parts, resolve_config(scl_weight=PRINTED_SCL_WEIGHT))
    assert float(ours) == pytest.approx(0.7 * float(each_way[0] + each_way[1]))


def train(task: given.Task, recipe: Recipe | None = None) -> dict[str, Tensor]:
    config = paper_config(task, epochs=2, batch_size=5, learning_rate=1e-3, classifier_learning_rate=1e-3)
    prompts = task.prompts(task.class_names)
    return fine_tune(task.backbone, task.tensors, task.labels, prompts, config, Reporter(), recipe=recipe)


def test_a_loss_summed_over_the_batch_is_the_same_training(
    task: given.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper prints sums over the batch. AdamW is independent of the scale, but for its ε."""

    def summed(parts: Mapping[str, Tensor], config: AdaptConfig) -> Tensor:
        return 5 * total_loss(parts, config)

    theta_0 = tower_parameters(task.backbone.model)
    mean = train(task)
    monkeypatch.setattr("core.clip.training.trainer.total_loss", summed)
    total = train(task)
    moved = sum(float((mean[name] - theta_0[name]).square().sum()) for name in mean)
    apart = sum(float((mean[name] - total[name]).square().sum()) for name in mean)
    assert moved > 0
    assert apart <= 0.05**2 * moved


def test_every_part_of_the_recipe_changes_the_training(task: given.Task) -> None:
    plain = train(task)
    for recipe in (
        Recipe(contrastive=supervised_contrastive_as_printed),
        Recipe(crop=flipped_crop),
        Recipe(schedule=lambda step, steps: 1.0),
    ):
        changed = train(task, recipe)
        assert any(not torch.equal(plain[name], changed[name]) for name in plain), recipe


def test_about_half_of_the_crops_are_mirrored() -> None:
    image = torch.arange(3 * 20 * 20, dtype=torch.float32).reshape(3, 20, 20).to(torch.uint8)
    mirrored = 0
    for seed in range(40):
        plain = random_resized_crop(image, 8, 1.0, torch.Generator().manual_seed(seed))
        crop = flipped_crop(image, 8, 1.0, torch.Generator().manual_seed(seed))
        mirrored += torch.equal(crop, plain.flip(-1))
        assert torch.equal(crop, plain) or torch.equal(crop, plain.flip(-1))
    assert 10 < mirrored < 30


def test_the_first_epoch_is_constant() -> None:
    shares = [warm_up(4, 5e-6, step, 12) for step in range(12)]
    assert shares[:3] == [pytest.approx(2.0)] * 3  # 1e-5 of a peak of 5e-6
    assert shares[3:] == [cosine(step, 12) for step in range(3, 12)]


def test_every_recipe_has_its_own_label(task: given.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of different recipes never mix, and the short one has half of the epochs."""
    epochs: list[int] = []

    def counted(task: given.Task, config: Any, recipe: Recipe) -> Any:
        epochs.append(config.epochs)
        return tower_parameters(task.backbone.model)

    monkeypatch.setattr(clip_cite_paper, "train", counted)
    labels = [label for method in RECIPES.values() for label in method(task)]
    assert len(labels) == len(set(labels)) == 2 * len(RECIPES)
    assert epochs == [20, 20, 20, 20, 10]
