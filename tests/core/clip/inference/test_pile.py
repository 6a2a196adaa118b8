"""Something else, groups and labels of a pile, against slow forms and on piles whose truth is known."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from core.clip.inference import graph, pile
from core.clip.inference import groups as groups_module
from core.clip.inference.graph import BLOCK, NEIGHBOURS, RESTART, WIDTH, Neighbours
from core.clip.inference.groups import groups
from core.clip.inference.pile import (
    FALSE_REJECTION_RATE,
    FOREIGN_QUANTILE,
    NONE,
    REST,
    Foreign,
    Judgement,
    Support,
    alone,
    less_prior,
    something_else,
)
from tests.core.clip.inference.made_piles import (
    CENTRES,
    CLASSES,
    IMAGES,
    SHOT_LABELS,
    SHOTS,
    SIDE,
    SUPPORT,
    TRUTH,
    around,
)


def slowly(support: Support, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return classes, scores and limit by the definition: dense, one photo left out after the other."""
    x = np.concatenate([support.features, images]).astype(np.float64)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
    linked = np.zeros(cosine.shape, bool)
    for row, columns in enumerate(near):
        linked[row, columns] = linked[columns, row] = True
    typical = np.median([cosine[row, columns].min() for row, columns in enumerate(near)])
    weight = np.where(linked, np.exp((cosine - typical) / WIDTH), 0)
    degree = weight.sum(axis=1)
    visits = np.linalg.inv(np.eye(len(x)) - (1 - RESTART) * weight / np.sqrt(np.outer(degree, degree)))

    def both(row: int, label: int, without: set[int]) -> tuple[float, float]:
        own = [i for i in np.flatnonzero(support.labels == label) if i not in without]
        mean = x[own].sum(axis=0)
        return np.log(visits[row, own].mean() + 1e-9), x[row] @ mean / np.linalg.norm(mean)

    first = len(support.labels) if support.shots is None else support.shots
    left_out = np.array([both(i, support.labels[i], {i}) for i in range(first)])
    deviations = lambda values: (values - left_out.mean(axis=0)) / left_out.std(axis=0)  # noqa: E731
    best, scores = [], []
    for row in range(len(support.labels), len(x)):
        of_class = np.array([both(row, label, set()) for label in support.classes])
        best.append(support.classes[of_class[:, 0].argmax()])
        scores.append(deviations(of_class.max(axis=0)).min())
    return np.array(best), np.array(scores), bound(deviations(left_out).min(axis=1))


def bound(scores: np.ndarray) -> float:
    """Return the lower bound of the 90% prediction interval, of which 5% of new scores are below."""
    t = stats.t(len(scores) - 1).ppf(1 - FALSE_REJECTION_RATE)
    return float(np.mean(scores) - t * np.sqrt(np.var(scores, ddof=1) * (1 + 1 / len(scores))))


def frames(of: np.ndarray, seed: int = 8) -> np.ndarray:
    """Return a nearly equal image for each of these."""
    noise = np.random.default_rng(seed).normal(size=of.shape) * 0.1 / np.sqrt(SIDE)
    return pile.unit(of + noise).astype(np.float32)


def labelled(support: Support, features: np.ndarray, labels: np.ndarray) -> Support:
    """Return the support set with more images, which do not set the limit."""
    rows, classes = (support.features, features), (support.labels, labels)
    shots = len(support.labels) if support.shots is None else support.shots
    return Support(np.concatenate(rows).astype(np.float32), np.concatenate(classes), shots)


def said(answer: Judgement) -> np.ndarray:
    return np.where(answer.known, answer.best, REST)


SUPPORTS = {
    "shots": SUPPORT,
    "labelled": labelled(SUPPORT, around(np.array([5, 5, 0]), seed=9), np.array([6, 6, 0])),
}


@pytest.mark.parametrize("support", SUPPORTS.values(), ids=SUPPORTS)
def test_it_is_the_slow_form(support: Support, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "BLOCK", 50)  # several blocks
    answer = something_else(support, IMAGES)
    best, scores, limit = slowly(support, IMAGES)
    assert (answer.best == best).all()
    assert np.allclose(answer.score, scores, atol=2e-3)
    assert answer.limit == pytest.approx(limit, abs=2e-3)
    assert set(np.unique(said(answer))) <= {REST, *support.classes}


def test_strangers_are_something_else_and_the_classes_stay() -> None:
    answer = something_else(SUPPORT, IMAGES)
    known = TRUTH < CLASSES
    assert (said(answer) == TRUTH)[known].mean() > 0.8
    assert (said(answer) == REST)[~known].mean() > 0.9
    without = something_else(SUPPORT, IMAGES[known])
    assert (said(without) == TRUTH[known]).mean() > 0.8


def test_a_burst_counts_as_one_photo() -> None:
    """Left out alone, an image would have its twins in the class: of the known photos none would stay."""
    rows = SUPPORT.features
    support = Support.of(np.concatenate([rows, frames(rows), frames(rows, 9)]), np.tile(SHOT_LABELS, 3))
    assert support.labels.tolist() == SHOT_LABELS.tolist()
    for judge in (something_else, alone):
        answer, of_one = judge(support, IMAGES), judge(SUPPORT, IMAGES)
        assert (answer.known == of_one.known).mean() > 0.97
    twins = Support.of(np.repeat(CENTRES[:4], 3, axis=0), np.repeat(np.arange(4), 3))  # one photo per class
    assert not len(twins.left_out)
    assert alone(twins, IMAGES).known.all()


def test_many_frames_of_one_photo_weigh_no_more_than_it() -> None:
    first = np.flatnonzero(np.arange(len(SHOT_LABELS)) % SHOTS == 0)
    more = [frames(SUPPORT.features[first], seed) for seed in range(20, 32)]
    support = Support.of(
        np.concatenate([SUPPORT.features, *more]), np.concatenate([SHOT_LABELS, *[SHOT_LABELS[first]] * 12])
    )
    assert support.labels.tolist() == SHOT_LABELS.tolist()
    assert alone(support, IMAGES).limit == pytest.approx(alone(SUPPORT, IMAGES).limit, abs=0.02)


@pytest.mark.parametrize("block", [4, 1024])
@pytest.mark.parametrize(("singles", "burst"), [(1, 4), (4, 12), (12, 4), (1, 30)])
def test_bursts_are_found_although_they_are_most_of_their_class(
    singles: int, burst: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "BLOCK", block)
    rows = around(np.zeros(singles + 1, np.int64), seed=4)
    mixed = np.random.default_rng(5).permutation(singles + burst)
    x = np.concatenate([rows[:singles], *(frames(rows[singles:], seed) for seed in range(burst))])[mixed]
    photos = pile.photos_of(x, np.zeros(len(x), np.int64))
    assert len(np.unique(photos)) == singles + 1
    assert len(np.unique(photos[mixed >= singles])) == 1
    assert pile.photos_of(x, np.full(len(x), NONE)).tolist() == list(range(len(x)))


def test_a_chain_of_photos_is_not_one_photo() -> None:
    """Forty photos lie between two others, each near the next."""
    steps = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    rows = pile.unit((1 - steps) * CENTRES[0] + steps * CENTRES[1])
    assert len(np.unique(pile.photos_of(rows, np.zeros(40, np.int64)))) > 1


def test_a_wrong_label_makes_no_burst_of_its_class() -> None:
    """The images of each class are alike, and one has the label of another class."""
    x, labels = around(SHOT_LABELS, seed=6, spread=0.3), SHOT_LABELS.copy()
    labels[0] = 1
    assert pile.photos_of(x, labels).tolist() == list(range(len(labels)))


def test_labelled_images_of_a_burst_join_its_shot() -> None:
    support = Support.of(
        np.concatenate([SUPPORT.features, frames(SUPPORT.features[:1]), IMAGES[5:6]]),
        np.append(SHOT_LABELS, [0, 7]),
        len(SHOT_LABELS),
    )
    assert support.labels.tolist() == [*SHOT_LABELS, 7]
    assert support.shots == len(SHOT_LABELS)


def test_an_image_alone() -> None:
    answer = alone(SUPPORT, IMAGES)
    assert answer.known[TRUTH < CLASSES].mean() > 0.8
    assert answer.known[TRUTH >= CLASSES].mean() < 0.2
    assert np.allclose(alone(SUPPORT, IMAGES[7:8]).score, answer.score[7:8], atol=1e-6)
    # Each left-out shot against the mean of the others of its class.
    left_out = []
    for i, (row, label) in enumerate(zip(SUPPORT.features, SHOT_LABELS, strict=True)):
        others = SUPPORT.features[[j for j in range(len(SHOT_LABELS)) if SHOT_LABELS[j] == label and j != i]]
        left_out.append(row @ others.sum(axis=0) / np.linalg.norm(others.sum(axis=0)))
    assert answer.limit == pytest.approx(bound(np.array(left_out)), abs=1e-5)
    of_two = alone(SUPPORT, IMAGES, classes=np.array([1, 3]))
    asked = [near for near, label in zip(left_out, SHOT_LABELS, strict=True) if label in {1, 3}]
    assert of_two.limit == pytest.approx(bound(np.array(asked)), abs=1e-5)
    with_one_shot = Support(np.concatenate([SUPPORT.features, CENTRES[:1]]), np.append(SHOT_LABELS, 9))
    assert alone(with_one_shot, IMAGES, classes=np.array([9])).limit == -np.inf
    assert not of_two.known[TRUTH == 0].any()
    assert set(of_two.best) == {1, 3}


@pytest.mark.parametrize("shots", [4, 25, 80])
def test_few_shots_lose_no_more_images_than_many(shots: int) -> None:
    generator = np.random.default_rng(shots)
    lost = [
        generator.normal() < pile.rejection_limit(generator.normal(size=shots).astype(np.float32))
        for _ in range(20_000)
    ]
    assert np.mean(lost) == pytest.approx(FALSE_REJECTION_RATE, abs=0.006)
    assert pile.rejection_limit(np.zeros(1, np.float32)) == -np.inf


def test_one_shot_per_class_rejects_nothing() -> None:
    one = Support(CENTRES[:4], np.arange(4))
    for answer in (something_else(one, IMAGES), alone(one, IMAGES)):
        assert answer.known.all()
        assert (said(answer) == TRUTH)[TRUTH < CLASSES].mean() > 0.85


def test_one_image_and_none() -> None:
    assert said(something_else(SUPPORT, IMAGES[:1])).tolist() == [0]
    assert said(something_else(SUPPORT, IMAGES[:0])).tolist() == []
    assert said(something_else(Support(CENTRES[:1], np.array([NONE])), IMAGES[:3])).tolist() == [REST] * 3


def test_a_mark_lowers_only_what_it_reaches() -> None:
    before = something_else(SUPPORT, IMAGES)
    marked = IMAGES[TRUTH == 0][:3]  # a person says that these are none of the classes
    far = something_else(labelled(SUPPORT, around(np.array([6, 6, 6]), seed=5), np.full(3, NONE)), IMAGES)
    near = something_else(labelled(SUPPORT, marked, np.full(3, NONE)), IMAGES)
    own = TRUTH < CLASSES
    assert (said(far)[own] == said(before)[own]).mean() > 0.98
    assert not said(far)[TRUTH == 6].max() >= 0
    assert near.marked.any()
    assert set(TRUTH[near.marked]) == {0}


def test_labels_count_at_once() -> None:
    """Three labelled images of a new class make it known; the limit still comes from the shots."""
    rows = np.flatnonzero(TRUTH == 5)[:3]
    grown = labelled(SUPPORT, IMAGES[rows], np.full(3, 9))
    answer = something_else(grown, IMAGES)
    assert (said(answer) == 9)[TRUTH == 5].mean() > 0.6
    assert not (said(answer) == 9)[TRUTH < CLASSES].any()
    assert len(grown.left_out) == len(SHOT_LABELS)
    assert labelled(grown, IMAGES[:1], np.array([0])).shots == len(SHOT_LABELS)
    assert alone(grown, IMAGES).limit == alone(SUPPORT, IMAGES).limit


def test_the_two_limits_are_two() -> None:
    """Strangers near the classes are something else long before they are unlike anything trained."""
    foreign = Foreign.of(SUPPORT)
    assert foreign is not None
    others = [
        max(row @ mean for k, mean in enumerate(SUPPORT.means) if k != label)
        for row, label in zip(SUPPORT.features, SHOT_LABELS, strict=True)
    ]
    assert foreign.limit == pytest.approx(np.quantile(others, FOREIGN_QUANTILE), abs=1e-6)
    assert foreign.limit < alone(SUPPORT, IMAGES).limit
    assert not foreign(SUPPORT.features).any()
    assert foreign(-SUPPORT.means.sum(axis=0, keepdims=True)).all()
    assert Foreign.of(Support(CENTRES[:1], np.array([0]))) is None


def test_groups_are_alike_and_central_images_come_first() -> None:
    value = np.where(TRUTH >= CLASSES, 1.0, 0.1)
    found = groups(IMAGES, value)
    assert len(found) == pytest.approx(len(IMAGES) / 12, abs=12)
    rows = np.concatenate(found)
    assert len(rows) == len(set(rows.tolist()))
    purity = [np.bincount(TRUTH[group[:9]]).max() / len(group[:9]) for group in found]
    assert np.mean(purity) > 0.95
    for group in found:
        near = IMAGES[group] @ IMAGES[group].sum(axis=0)
        assert near[:3].mean() > near[-3:].mean()
    # The groups with the most value come first.
    worth = [value[group].sum() for group in found]
    assert worth == sorted(worth, reverse=True)
    assert (TRUTH[np.concatenate(found[:10])] >= CLASSES).mean() > 0.7
    largest = [len(group) for group in groups(IMAGES)]
    assert largest == sorted(largest, reverse=True)


def test_groups_leave_out_what_was_shown_and_need_images() -> None:
    done = TRUTH % 2 == 0
    shown = np.concatenate(groups(IMAGES, done=done))
    assert not done[shown].any()
    assert groups(IMAGES[:11]) == []
    assert groups(IMAGES, done=np.ones(len(IMAGES), bool)) == []
    same = groups(np.repeat(IMAGES[:1], 40, axis=0))
    assert sum(map(len, same)) == 40


def test_groups_of_many_images_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_GROUPS", 8)
    found = groups(IMAGES)
    assert len(found) <= 8
    assert sum(map(len, found)) == len(IMAGES)


def test_large_classes_lose_what_their_number_gave_them() -> None:
    less = less_prior(np.array([16, 2, 4]), logit_scale=40.0)
    assert less == pytest.approx([np.log(8) / 40, 0, np.log(2) / 40])
    assert not less_prior(np.array([5, 5, 5]), logit_scale=40.0).any()
    assert np.isfinite(less_prior(np.array([3, 0]), logit_scale=40.0)).all()


def test_neighbours_need_the_memory_of_one_block_of_cosines() -> None:
    """Copies and an `argpartition` of each block took four."""
    rows = around(np.arange(20_000) % 8, seed=5)
    tracemalloc.start()
    Neighbours.between(rows[:BLOCK], rows, own=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * 4 * BLOCK * len(rows)
