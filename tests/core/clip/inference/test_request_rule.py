"""The rule of each kind of request, against plain loops and by its invariants."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.inference.request_rule import MIN_IMAGES, adapted_rule, kind_of, request_rule
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
    shots = unit(6, 6, seed=4), torch.tensor([0] * 3 + [1] + [2] * 2)  # too few for a floor
    less = torch.tensor([3.0, 1.0, 2.0]).log() / LOGIT_SCALE
    before, after = (
        rule.scores(IMAGES)
        for rule in (
            request_rule(shots, TEXTS[:3], CLOSED),
            adapted_rule(shots, TEXTS[:3], CLOSED, LOGIT_SCALE),
        )
    )
    torch.testing.assert_close(after, before - less[CLOSED])
    before, after = (
        rule.scores(IMAGES)
        for rule in (request_rule(shots, TEXTS, MIXED), adapted_rule(shots, TEXTS, MIXED, LOGIT_SCALE))
    )
    columns, new = [0, 2, 3], [1, 4]
    torch.testing.assert_close(after[:, new], before[:, new])
    torch.testing.assert_close(after[:, columns].amax(dim=1), before[:, columns].amax(dim=1))
    assert not torch.equal(after[:, columns].argmax(dim=1), before[:, columns].argmax(dim=1))
    for classes, balance in ((CLOSED, 0), (UNTRAINED, 0.35)):
        paper = adapted_rule(shots, TEXTS[:3], classes, LOGIT_SCALE, balance)
        assert torch.equal(paper.scores(IMAGES), IMAGES @ TEXTS[:3].T)


def recognised(shots: tuple[Tensor, Tensor], scores: Tensor, classes: list[int]) -> list[float]:
    """Return the share of each class's training images that the scores assign to it."""
    found = torch.tensor(classes)[scores.argmax(dim=1)]
    return [float((found[shots[1] == c] == c).float().mean()) for c in classes]


def alike(counts: list[int], spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return shots of classes that look alike, as a network that was trained on them sees them."""
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    centres = unit(1, 24, seed=seed) + spread * unit(len(counts), 24, seed=seed + 1)
    return F.normalize(centres[labels] + 0.04 * unit(len(labels), 24, seed=seed + 2), dim=-1), labels


def test_large_classes_beside_small_ones_keep_their_training_images() -> None:
    """A laboratory's eight classes: three large ones were recognised in 0 of 48 training images."""
    shots, classes = alike([16] * 4 + [2] * 4, 0.05, seed=7), list(range(8))
    texts = F.normalize(unit(1, 24, seed=20) + 0.02 * unit(8, 24, seed=21), dim=-1)
    rule, plain = (f(shots, texts, classes, *a) for f, a in ((adapted_rule, [30.0]), (request_rule, [])))
    whole = plain.scores(shots[0]) - torch.tensor([8.0] * 4 + [1.0] * 4).log() / 30
    assert min(recognised(shots, plain.scores(shots[0]), classes)[:4]) >= 0.5
    assert min(recognised(shots, whole, classes)[:4]) < 0.5
    assert min(recognised(shots, rule.scores(shots[0]), classes)[:4]) >= 0.5
    less = (plain.among_trained.biases - rule.among_trained.biases)[:4] * 30 / torch.tensor(8.0).log()
    strength = float(less.mean())
    torch.testing.assert_close(less, torch.full((4,), strength))
    assert 1 / strength == pytest.approx(2 ** round(-torch.tensor(strength).log2().item()), rel=1e-3)
    twice = plain.scores(shots[0]) - 2 * strength * torch.tensor([8.0] * 4 + [1.0] * 4).log() / 30
    assert min(recognised(shots, twice, classes)[:4]) < 0.5  # no weaker than needed


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    spread=st.floats(0, 0.3),
    seed=st.integers(0, 99),
    scale=st.floats(1, 100),
)
def test_no_class_is_lost_by_the_prior(counts: list[int], spread: float, seed: int, scale: float) -> None:
    shots, classes = alike(counts, spread, seed), list(range(len(counts)))
    texts = unit(len(counts), 24, seed=seed)
    before, after = (
        recognised(shots, rule.scores(shots[0]), classes)
        for rule in (request_rule(shots, texts, classes), adapted_rule(shots, texts, classes, scale))
    )
    for n, without, served in zip(counts, before, after, strict=True):
        assert n < MIN_IMAGES or without < 0.5 or served >= 0.5
