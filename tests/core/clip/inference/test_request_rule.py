"""The rule of each kind of request, against plain loops and by its invariants."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.inference.request_rule import kind_of, request_rule, without_prior
from tests.core.clip.inference.slow_scores import IMAGES, SHOTS, TEXTS, slow_closed_scores, unit

LOGIT_SCALE = 5.0


ONE_EACH = SHOTS[0][[0, 2, 3]], torch.tensor([0, 1, 2])
"""Without discriminants."""
UNEVEN = SHOTS[0][:8], torch.tensor([1, 1, 4, 7, 7, 7, 7, 1])
"""Other classes have no shot, and class 4 has one."""
MANY = unit(400, 6, seed=3), torch.arange(400) % 3
"""Many shots that the classes do not separate: the discriminants are small."""
CLOSED, MIXED, UNTRAINED = [2, 0, 1], [2, NEW_CLASS, 0, 1, NEW_CLASS], [NEW_CLASS] * 3
NEAR = TEXTS.clone()
"""Texts. The trained ones are near their shots, so that these prefer trained classes."""
NEAR[[0, 2, 3]] = F.normalize(SHOTS[0][[4, 0, 2]] + 0.3 * unit(3, 6, seed=8), dim=-1)
BY_KIND = {"closed": CLOSED, "mixed": MIXED, "untrained": UNTRAINED}


@pytest.mark.parametrize("kind", BY_KIND)
def test_the_kind_follows_from_the_classes(kind: str) -> None:
    classes = BY_KIND[kind]
    assert kind_of(classes) == kind
    assert request_rule(SHOTS, TEXTS[: len(classes)], classes).kind == kind


def test_no_class_is_a_foreign_request() -> None:
    assert request_rule(SHOTS, TEXTS[:0], []).scores(IMAGES).shape == (20, 0)
    assert kind_of([]) == "untrained"


def test_a_foreign_request_has_the_papers_scores() -> None:
    rule = request_rule(SHOTS, TEXTS[:3], UNTRAINED)
    assert torch.equal(rule.scores(IMAGES), IMAGES @ TEXTS[:3].T)


@pytest.mark.parametrize("balance", [0.1, 0.35, 1.0])
@pytest.mark.parametrize(
    ("shots", "classes"),
    [
        (SHOTS, CLOSED),
        (SHOTS, [1, 2]),
        (ONE_EACH, CLOSED),
        (UNEVEN, [7, 1, 4]),
        (UNEVEN, [4, 7]),
        (MANY, CLOSED),
    ],
)
def test_a_closed_request_has_prototypes_offsets_and_discriminants(
    shots: tuple[Tensor, Tensor], classes: list[int], balance: float
) -> None:
    texts = TEXTS[: len(classes)]
    rule = request_rule(shots, texts, classes, balance)
    torch.testing.assert_close(rule.scores(IMAGES), slow_closed_scores(texts, classes, shots, balance))
    torch.testing.assert_close(rule.offsets, class_offsets(*shots, rule.classifier_weights, classes, balance))


@settings(max_examples=50, deadline=None)
@given(classes=st.lists(st.integers(-1, 2), min_size=2, max_size=8), seed=st.integers(0, 99))
def test_a_mixed_request_decides_trained_or_new_by_text_and_offsets(classes: list[int], seed: int) -> None:
    assume(kind_of(classes) == "mixed")
    texts = unit(len(classes), 6, seed=seed)
    trained = [i for i, c in enumerate(classes) if c != NEW_CLASS]
    new = [i for i, c in enumerate(classes) if c == NEW_CLASS]
    rule = request_rule(SHOTS, texts, classes)
    scores = rule.scores(IMAGES)
    by_text = IMAGES @ texts.T - class_offsets(*SHOTS, texts, classes, 0.35)
    torch.testing.assert_close(rule.offsets, class_offsets(*SHOTS, texts, classes, 0.35))
    torch.testing.assert_close(scores[:, new], by_text[:, new])
    torch.testing.assert_close(scores[:, trained].amax(dim=1), by_text[:, trained].amax(dim=1))
    among, closed = scores[:, trained], slow_closed_scores(texts[trained], [classes[i] for i in trained])
    torch.testing.assert_close(among - among[:, :1], closed - closed[:, :1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, NEW_CLASS]])
def test_classes_of_the_same_images_have_finite_scores(classes: list[int]) -> None:
    pair = unit(2, 8, seed=1)
    shots = torch.cat([pair, pair, unit(2, 8, seed=2)]), torch.tensor([0, 0, 1, 1, 2, 2])
    rule = request_rule(shots, unit(len(classes), 8, seed=3), classes)
    assert rule.scores(unit(5, 8, seed=4)).isfinite().all()


def test_a_trained_class_without_a_shot_leaves_the_texts() -> None:
    """Support sets of an earlier version had at most 128 shots."""
    classes = [2, NEW_CLASS, 0, 7, NEW_CLASS]
    rule = request_rule(SHOTS, TEXTS, classes)
    expected = IMAGES @ TEXTS.T - class_offsets(*SHOTS, TEXTS, classes, 0.35)
    torch.testing.assert_close(rule.scores(IMAGES), expected)


@pytest.mark.parametrize("classes", BY_KIND.values())
def test_balance_0_gives_the_papers_scores(classes: list[int]) -> None:
    texts = TEXTS[: len(classes)]
    rule = request_rule(SHOTS, texts, classes, 0.0)
    assert torch.equal(rule.scores(IMAGES), IMAGES @ texts.T)


def test_without_a_support_set_every_request_is_foreign() -> None:
    for classes in BY_KIND.values():
        assert request_rule(None, TEXTS[: len(classes)], classes).kind == "untrained"


def test_the_size_counts_every_tensor() -> None:
    rule = request_rule(SHOTS, NEAR, MIXED)
    assert rule.nbytes == 4 * (5 * 6 + 5) + 4 * (3 * 6 + 3) + 8 * 3


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


def test_the_prior_lowers_trained_classes_but_not_their_best_score_beside_new_ones() -> None:
    labels = torch.tensor([0] * 16 + [1] * 2 + [2] * 4)
    less = torch.tensor([8.0, 1.0, 2.0]).log() / LOGIT_SCALE
    closed = request_rule(SHOTS, TEXTS[:3], CLOSED)
    expected = closed.scores(IMAGES) - less[CLOSED]
    torch.testing.assert_close(without_prior(closed, labels, CLOSED, LOGIT_SCALE).scores(IMAGES), expected)
    mixed = request_rule(SHOTS, TEXTS, MIXED)
    before, after = mixed.scores(IMAGES), without_prior(mixed, labels, MIXED, LOGIT_SCALE).scores(IMAGES)
    trained, new = [0, 2, 3], [1, 4]
    torch.testing.assert_close(after[:, new], before[:, new])
    torch.testing.assert_close(after[:, trained].amax(dim=1), before[:, trained].amax(dim=1))
    assert not torch.equal(after[:, trained].argmax(dim=1), before[:, trained].argmax(dim=1))
    for classes in (CLOSED, UNTRAINED):
        paper = request_rule(SHOTS, TEXTS[:3], classes, balance=0)
        assert without_prior(paper, labels, classes, LOGIT_SCALE) is paper
