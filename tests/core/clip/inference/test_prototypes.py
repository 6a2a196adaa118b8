"""The prototype classifier (instant preview) against plain loops, and its invariants."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.inference.prototypes import PrototypeClassifier
from tests.core.clip.inference.slow_scores import IMAGES, SHOTS, slow_closed_scores, unit

FEATURES, LABELS = SHOTS
TEXTS = unit(5, 6, seed=1)
CLASSES = [2, NEW_CLASS, 0, 1, NEW_CLASS]


def test_a_new_class_is_its_prompts() -> None:
    untrained = PrototypeClassifier(FEATURES, LABELS).rule(TEXTS, [NEW_CLASS] * 5)
    assert untrained.kind == "untrained"
    for rule in (untrained, PrototypeClassifier(FEATURES, LABELS).rule(TEXTS, CLASSES, balance=0)):
        assert torch.equal(rule.scores(IMAGES), IMAGES @ TEXTS.T)
    mixed = PrototypeClassifier(FEATURES, LABELS).rule(TEXTS, CLASSES).classifier_weights
    torch.testing.assert_close(mixed[[1, 4]], TEXTS[[1, 4]])


def test_a_class_without_shots_is_its_prompts() -> None:
    found = PrototypeClassifier(FEATURES, LABELS).rule(TEXTS, [7, NEW_CLASS, 0, 1, 3]).classifier_weights
    torch.testing.assert_close(found[[0, 4]], TEXTS[[0, 4]])


@pytest.mark.parametrize("balance", [0.1, 0.35])
def test_trained_or_new_is_decided_by_cosines_less_the_offsets(balance: float) -> None:
    rule = PrototypeClassifier(FEATURES, LABELS).rule(TEXTS, CLASSES, balance)
    head = rule.classifier_weights
    found = replace(rule, if_unlike=None).scores(IMAGES)
    expected = IMAGES @ head.T - class_offsets(FEATURES, LABELS, head, CLASSES, balance)
    trained, new = [0, 2, 3], [1, 4]
    torch.testing.assert_close(found[:, new], expected[:, new])
    torch.testing.assert_close(found[:, trained].amax(dim=1), expected[:, trained].amax(dim=1))
    # Which trained class it is, the discriminants of the shots decide, as in a closed request.
    shots, among = (FEATURES, LABELS), found[:, trained]
    closed = PrototypeClassifier(*shots).rule(TEXTS[trained], [2, 0, 1], balance).scores(IMAGES)
    slow = slow_closed_scores(TEXTS[trained], [2, 0, 1], shots, balance, text_counts_as=1, preview=True)
    torch.testing.assert_close(closed, slow)
    torch.testing.assert_close(among - among[:, :1], closed - closed[:, :1], rtol=0, atol=1e-4)


def test_images_unlike_the_shots_are_answered_by_the_stock_model() -> None:
    shots = F.normalize(unit(3, 6, seed=5)[LABELS] + 0.2 * FEATURES, dim=-1)
    preview = PrototypeClassifier(shots, LABELS)
    rule = preview.rule(TEXTS, CLASSES)
    means = [F.normalize(shots[label == LABELS].mean(dim=0), dim=-1) for label in range(3)]
    to_others = [
        max(float(shot @ mean) for other, mean in enumerate(means) if other != label)
        for shot, label in zip(shots, LABELS.tolist(), strict=True)
    ]
    least = float(torch.tensor(to_others).quantile(0.05))
    images = torch.cat([unit(30, 6, seed=4), -shots])
    unlike = [max(float(image @ mean) for mean in means) < least for image in images]
    assert 0 < sum(unlike) < len(images)
    found, usual = rule.scores(images), replace(rule, if_unlike=None).scores(images)
    for row, is_unlike in enumerate(unlike):
        torch.testing.assert_close(found[row], images[row] @ TEXTS.T if is_unlike else usual[row])
    assert preview.rule(TEXTS[[0, 2, 3]], [2, 0, 1]).if_unlike is None
    assert PrototypeClassifier(shots[:2], LABELS[:2]).rule(TEXTS, CLASSES).if_unlike is None  # one class


def test_shots_separate_classes_with_equal_prompts() -> None:
    """Two classes share one prompt and have images of their own."""
    centres = unit(2, 6, seed=3).repeat_interleave(20, dim=0)
    images = F.normalize(centres + 0.1 * unit(40, 6, seed=9), dim=-1)
    labels = torch.tensor([0] * 20 + [1] * 20)
    preview = PrototypeClassifier(images[::2], labels[::2])
    scores = preview.rule(TEXTS[:1].repeat(2, 1), [0, 1]).scores(images[1::2])
    assert (scores.argmax(dim=1) == labels[1::2]).all()
