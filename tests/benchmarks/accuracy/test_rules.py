"""Candidate rules of inference, against the product's code and plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.accuracy.measures import RESAMPLES, mean_of_resampled_runs, resampled_images
from benchmarks.accuracy.rules import (
    Offsets,
    Rule,
    Support,
    nearness,
    offsets_of,
    scores,
    today,
    with_prototypes,
)
from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.weights.support_set import support_shots


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


CLASSES = [1, NEW_CLASS, 0, NEW_CLASS, 2]
TEXTS = {alpha: unit(5, 8, seed=i) for i, alpha in enumerate((0.0, 0.5))}
SHOTS = {alpha: unit(9, 8, seed=10 + i) for i, alpha in enumerate((0.0, 0.5))}
LABELS = torch.tensor([0, 0, 1, 2, 2, 2, 1, 0, 2])
SUPPORT = Support(SHOTS, LABELS)
IMAGES = {alpha: unit(20, 8, seed=20 + i) for i, alpha in enumerate((0.0, 0.5))}


def test_prototypes_of_weight_1_are_the_previews() -> None:
    ours = with_prototypes(TEXTS[0.5], SHOTS[0.5], LABELS, CLASSES, 1.0)
    product = PrototypeClassifier(SHOTS[0.5], LABELS).rule(TEXTS[0.5], CLASSES).classifier_weights
    torch.testing.assert_close(ours, product)


def test_todays_rule_is_cosines_less_the_offsets() -> None:
    found = scores(today(), IMAGES, TEXTS, SUPPORT, CLASSES)
    offsets = class_offsets(SHOTS[0.5], LABELS, TEXTS[0.5], CLASSES, 0.35, {})
    torch.testing.assert_close(found, IMAGES[0.5] @ TEXTS[0.5].T - offsets)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_share_of_the_levels_changes_mixed_requests_alone(alpha: float) -> None:
    whole, part = (Rule(alpha, served=True, whole_from=n) for n in (1, 6))
    given = IMAGES, TEXTS, SUPPORT
    for classes in ([0, 1, 2, 0, 1], [NEW_CLASS] * 5):
        torch.testing.assert_close(scores(part, *given, classes), scores(whole, *given, classes))
    found, before = (scores(rule, *given, CLASSES) for rule in (part, whole))
    new = torch.tensor(CLASSES) == NEW_CLASS
    # The other classes keep their order, and all differences are those of the offsets.
    difference = (found - before)[:, new]
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))
    weights = PrototypeClassifier(SHOTS[0.0], LABELS).rule(TEXTS[0.0], CLASSES).classifier_weights
    weights = TEXTS[alpha] if alpha else weights
    given_offsets = SHOTS[alpha], LABELS, weights, CLASSES, 0.35
    expected = class_offsets(*given_offsets, {}) - class_offsets(*given_offsets, {3: 0.5})
    torch.testing.assert_close(difference[0], expected[new])
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("offsets", ["gamma", "gamma_left_out"])
@pytest.mark.parametrize("labels", [LABELS, torch.tensor([0, 0, 1, 2, 2, 2, 2, 0, 2])])
def test_gamma_is_half_of_the_median_margin(offsets: Offsets, labels: Tensor) -> None:
    """Each shot may be left out of the prototype of its class. The only shot of a class then leaves its
    text alone.
    """
    rule = Rule(0.5, 1.0, 3.0, offsets, 0.5)
    shots, texts = SHOTS[0.5], TEXTS[0.5]
    every = {c: F.normalize(shots[labels == c].mean(dim=0), dim=-1) for c in (0, 1, 2)}
    mean = (every[0] + every[1] + every[2]) / 3
    margins = []
    for i in range(9):
        best: dict[bool, float] = {True: -1.0, False: -1.0}
        for text, c in zip(texts, CLASSES, strict=True):
            rows = [j for j in range(9) if labels[j] == c and not (j == i and offsets == "gamma_left_out")]
            head = text
            if c != NEW_CLASS and rows:
                prototype = F.normalize(shots[rows].mean(dim=0), dim=-1)
                head = F.normalize(text + len(rows) / (len(rows) + 3) * (prototype - mean), dim=-1)
            best[c != NEW_CLASS] = max(best[c != NEW_CLASS], float(head @ shots[i]))
        margins.append(best[True] - best[False])
    gamma = 0.5 * max(0.0, sorted(margins)[4])
    weights = with_prototypes(texts, shots, labels, CLASSES, 1.0, 3.0)
    found = offsets_of(rule, weights, TEXTS, Support(SHOTS, labels), CLASSES)
    assert found.tolist() == pytest.approx([gamma * (c != NEW_CLASS) for c in CLASSES], abs=1e-6)
    assert gamma > 0


def test_the_support_set_is_the_stored_one() -> None:
    labels = torch.arange(600) % 3
    kept = Support.of({0.5: torch.arange(600.0)[:, None]}, labels)
    chosen = support_shots(labels.tolist())
    assert len(chosen) < 600
    assert kept.labels.tolist() == labels[chosen].tolist()
    assert kept.features[0.5].flatten().tolist() == chosen


def test_nearness_is_relative_to_the_trained_names() -> None:
    trained = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]]), dim=-1)
    among = float(trained[0] @ trained[1])
    assert nearness(trained[:1], trained) == pytest.approx(1 - among, abs=1e-6)
    assert nearness(torch.tensor([[0.0, 0.0, 1.0]]), trained) == pytest.approx(-among, abs=1e-6)


def test_resampled_images_and_runs() -> None:
    weights = resampled_images(30, seed=1)
    assert weights.shape == (RESAMPLES, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert np.array_equal(weights, resampled_images(30, seed=1))  # the same draws for every rule
    values = np.repeat([[0.0], [1.0]], RESAMPLES, axis=1)
    means = mean_of_resampled_runs(values, [5, 6], seed=1)
    assert set(means) == {0.0, 0.5, 1.0}  # two splits, drawn with replacement
    seeds = np.repeat([[0.0], [1.0], [4.0]], RESAMPLES, axis=1)
    nested = mean_of_resampled_runs(seeds, [0, 0, 1], seed=1)
    assert set(nested) == {0.0, 0.5, 1.0, 2.0, 2.25, 2.5, 4.0, 0.25, 0.75}
