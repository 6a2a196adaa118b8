"""The rule of each kind of request, against plain loops and by its invariants."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.accuracy.rules import CONFIRMED, Support
from benchmarks.accuracy.rules import scores as benchmark_scores
from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.inference.request_rule import TEXT_COUNTS_AS, add_prototypes, kind_of, request_rule


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


SHOTS = unit(9, 6, seed=0), torch.tensor([0, 0, 1, 2, 2, 2, 1, 0, 2])
TEXTS, IMAGES = unit(5, 6, seed=1), unit(20, 6, seed=2)
CLOSED, MIXED, FOREIGN = [2, 0, 1], [2, NEW_CLASS, 0, 1, NEW_CLASS], [NEW_CLASS] * 3
NEAR = TEXTS.clone()
"""Texts of which the trained ones lie near their shots, so that these prefer trained classes."""
NEAR[[0, 2, 3]] = F.normalize(SHOTS[0][[4, 0, 2]] + 0.3 * unit(3, 6, seed=8), dim=-1)
BY_KIND = {"closed": CLOSED, "mixed": MIXED, "foreign": FOREIGN}


@pytest.mark.parametrize("kind", BY_KIND)
def test_the_kind_follows_from_the_classes(kind: str) -> None:
    classes = BY_KIND[kind]
    assert kind_of(classes) == kind
    assert request_rule(SHOTS, TEXTS[: len(classes)], classes).kind == kind


def test_no_class_is_a_foreign_request() -> None:
    assert request_rule(SHOTS, TEXTS[:0], []).scores(IMAGES).shape == (20, 0)
    assert kind_of([]) == "foreign"


def test_a_foreign_request_has_the_papers_scores() -> None:
    rule = request_rule(SHOTS, TEXTS[:3], FOREIGN)
    assert torch.equal(rule.scores(IMAGES), IMAGES @ TEXTS[:3].T)


def test_a_closed_request_has_prototypes_and_an_offset_per_class() -> None:
    """The benchmark's own code has plain loops."""
    rule = request_rule(SHOTS, TEXTS[:3], CLOSED)
    support = Support({0.5: SHOTS[0]}, SHOTS[1])
    expected = benchmark_scores(CONFIRMED["closed"], {0.5: IMAGES}, {0.5: TEXTS[:3]}, support, CLOSED)
    torch.testing.assert_close(rule.scores(IMAGES), expected)
    offsets = class_offsets(*SHOTS, rule.classifier_weights, CLOSED, 0.35)
    torch.testing.assert_close(rule.offsets, offsets)
    assert len(set(rule.offsets.tolist())) == 3


@pytest.mark.parametrize("labels", [SHOTS[1], torch.tensor([0, 0, 1, 2, 2, 2, 2, 0, 2])])
def test_a_mixed_request_has_prototypes_and_one_offset_for_trained_classes(labels: Tensor) -> None:
    """The benchmark's own code has plain loops. In the second case a class has one shot."""
    texts, shots = NEAR, {0.5: SHOTS[0]}
    rule = request_rule((SHOTS[0], labels), texts, MIXED)
    expected = benchmark_scores(
        CONFIRMED["mixed"], {0.5: IMAGES}, {0.5: texts}, Support(shots, labels), MIXED
    )
    torch.testing.assert_close(rule.scores(IMAGES), expected)
    assert rule.offsets[0] > 0
    assert rule.offsets.tolist() == [rule.offsets[0] * (c != NEW_CLASS) for c in MIXED]


@settings(max_examples=50, deadline=None)
@given(
    classes=st.lists(st.integers(-1, 2), min_size=2, max_size=8),
    seed=st.integers(0, 99),
    balance=st.floats(0, 1),
)
def test_the_offset_changes_no_order_within_trained_or_within_new_classes(
    classes: list[int], seed: int, balance: float
) -> None:
    rule = request_rule(SHOTS, unit(len(classes), 6, seed=seed), classes, balance, "mixed")
    with_offset, without = rule.scores(IMAGES), IMAGES @ rule.classifier_weights.T
    for columns in ([i for i, c in enumerate(classes) if (c == NEW_CLASS) is new] for new in (True, False)):
        # Equal classes have equal scores, whose order is free.
        ordered = [x[:, columns].sort(dim=1).values for x in (with_offset, without)]
        if columns:
            torch.testing.assert_close(*(x - x[:, :1] for x in ordered), rtol=0, atol=1e-5)
    assert rule.offsets.min() >= 0


def test_a_larger_balance_gives_more_to_new_classes() -> None:
    gammas = [float(request_rule(SHOTS, NEAR, MIXED, b).offsets.max()) for b in (0.1, 0.35, 0.6, 0.7, 1.0)]
    assert gammas == sorted(gammas)
    assert gammas[-1] == gammas[-2] > 0


def test_prototypes_count_by_their_shots() -> None:
    features, labels = SHOTS
    prototypes = {}
    for label in range(3):
        mean = sum(f for f, own in zip(features, labels.tolist(), strict=True) if own == label)
        prototypes[label] = mean / mean.norm()
    middle = sum(prototypes.values()) / 3
    expected = []
    for text, label in zip(TEXTS, MIXED, strict=True):
        n = labels.tolist().count(label)
        row = text if label == NEW_CLASS else text + n / (n + 3) * (prototypes[label] - middle)
        expected.append(row / row.norm())
    torch.testing.assert_close(request_rule(SHOTS, TEXTS, MIXED).classifier_weights, torch.stack(expected))


def test_a_trained_class_without_a_shot_leaves_the_texts() -> None:
    """A support set has at most 128 shots."""
    rule = request_rule(SHOTS, TEXTS, [2, NEW_CLASS, 0, 7, NEW_CLASS])
    torch.testing.assert_close(rule.classifier_weights, TEXTS)


@pytest.mark.parametrize("kind", [None, *BY_KIND])
@pytest.mark.parametrize("classes", BY_KIND.values())
def test_balance_0_gives_the_papers_scores(classes: list[int], kind: str | None) -> None:
    texts = TEXTS[: len(classes)]
    rule = request_rule(SHOTS, texts, classes, 0.0, kind)  # type: ignore[arg-type]
    assert torch.equal(rule.scores(IMAGES), IMAGES @ texts.T)
    near = request_rule(SHOTS, texts, classes, 1e-6, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(near.scores(IMAGES), IMAGES @ texts.T, rtol=0, atol=1e-5)


def test_without_a_support_set_every_request_is_foreign() -> None:
    for classes in BY_KIND.values():
        assert request_rule(None, TEXTS[: len(classes)], classes).kind == "foreign"


@pytest.mark.parametrize("kind", BY_KIND)
def test_another_rule_can_be_forced(kind: str) -> None:
    forced = request_rule(SHOTS, NEAR, MIXED, kind=kind)  # type: ignore[arg-type]
    assert forced.kind == kind
    assert torch.equal(forced.classifier_weights, NEAR) == (kind == "foreign")
    assert bool(forced.offsets.any()) == (kind != "foreign")


@settings(max_examples=50, deadline=None)
@given(
    classes=st.lists(st.integers(-1, 2), min_size=1, max_size=8),
    seed=st.integers(0, 99),
    balance=st.floats(0, 1),
)
def test_scores_do_not_depend_on_the_order_of_the_classes(
    classes: list[int], seed: int, balance: float
) -> None:
    texts = unit(len(classes), 6, seed=seed)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    rule = request_rule(SHOTS, texts, classes, balance)
    other = request_rule(SHOTS, texts[order], [classes[i] for i in order.tolist()], balance)
    torch.testing.assert_close(other.scores(IMAGES), rule.scores(IMAGES)[:, order])


def test_more_shots_move_a_class_further() -> None:
    shots = unit(1, 6, seed=3)
    moved = []
    for n in (1, 4, 16):
        features, labels = torch.cat([shots.repeat(n, 1), SHOTS[0][2:3]]), torch.tensor([0] * n + [1])
        weights = add_prototypes(TEXTS[:1], features, labels, [0], TEXT_COUNTS_AS)
        moved.append(float((weights - TEXTS[:1]).norm()))
    assert moved == sorted(moved)
    assert moved[0] > 0
