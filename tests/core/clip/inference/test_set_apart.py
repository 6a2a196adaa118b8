"""The rule of a pile with answers, against a dense form, and each part on piles whose truth is known."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from core.clip.inference import graph, set_apart
from core.clip.inference.answers import TAUGHT, UNSAID, Answers
from core.clip.inference.graph import NEIGHBOURS, RESTART, STEPS, WIDTH, Neighbours, unit
from core.clip.inference.pile import FALSE_REJECTION_RATE, NONE, Support
from core.clip.inference.set_apart import Apart, least_like
from tests.core.clip.inference.made_piles import (
    CLASSES,
    IMAGES,
    NAMES,
    SHOT_LABELS,
    SUPPORT,
    TRUTH,
    Rows,
    Said,
    answered,
    around,
    blurred,
    say,
)

KEEP, DROP, FAR, FEW = 1.5, -1.0, -3.0, 10


def judge(answers: Answers, images: np.ndarray = IMAGES, **fields: object) -> Apart:
    given: dict[str, Any] = {"trained": (SUPPORT.features, SUPPORT.labels), **fields}
    return set_apart.judge_apart(images, SUPPORT, answers, Neighbours.among(images), **given)


def walked(added: np.ndarray, images: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the visits of all rows, those added and the images, by dense steps.

    An example is an image, too. Which of two equal rows is a neighbour is open, so the neighbours are given.
    """
    x = np.concatenate([added, images]).astype(np.float64)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    near = Neighbours.among(images).after(added, images).columns
    found, best = np.take_along_axis(cosine, near, axis=1), -np.sort(-cosine, axis=1)[:, :NEIGHBOURS]
    assert -np.sort(-found, axis=1) == pytest.approx(best, abs=1e-6)
    typical = np.median([cosine[i, columns].min() for i, columns in enumerate(near)])
    weight = np.zeros(cosine.shape)
    for i, columns in enumerate(near):
        weight[i, columns] = weight[columns, i] = np.exp((cosine[i, columns] - typical) / WIDTH)
    degree = weight.sum(axis=1)
    step = weight / np.sqrt(np.outer(degree, degree))
    visits = start
    for _ in range(STEPS):
        visits = (1 - RESTART) * step @ visits + start
    return visits


def logs(visits: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(visits, 0) + 1e-9)


def slowly(
    images: np.ndarray, shots: np.ndarray, labels: np.ndarray, acts: list[tuple[Rows, Rows, Rows, int]]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return `apart`, score and limit by the definition, in float64.

    Args:
        acts: shown and ticked images, unseen members, unticked images and the class of each answered group.
    """
    taught = [i for shown, _, _, name in acts if name == NONE for i in shown[:TAUGHT]]
    examples, n, x = np.concatenate([shots, images[taught]]), len(shots), images.astype(np.float64)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    start = np.zeros((len(examples) + len(x), len(members)))
    for column, rows in enumerate(members):
        start[rows, column] = 1 / len(rows)
    visits = walked(examples, images, start)[len(examples) :].max(axis=1)
    near = np.max([x @ unit(shots[rows].sum(axis=0)) for rows in members], axis=0)
    own = []
    for i in range(n):
        others = [j for j in np.flatnonzero(labels == labels[i]) if j != i]
        one = np.zeros((len(start), 1))
        one[others] = 1 / len(others)
        own.append((logs(walked(examples, images, one)[i, 0]), shots[i] @ unit(shots[others].sum(axis=0))))
    middle, width = np.mean(own, axis=0), np.std(own, axis=0)
    score = ((np.stack([logs(visits), near], axis=1) - middle) / width).min(axis=1)
    left = ((np.array(own) - middle) / width).min(axis=1)
    t = stats.t(n - 1).ppf(1 - FALSE_REJECTION_RATE)
    limit = float(left.mean() - t * left.std(ddof=1) * np.sqrt(1 + 1 / n))

    labelled = {int(i): name for shown, _, _, name in acts for i in shown}
    names = sorted({*labels.tolist(), *labelled.values()} - {NONE})
    start = np.zeros((n + len(x), len(names) + 1))
    for row, name in [*enumerate(labels), *((n + i, name) for i, name in labelled.items())]:
        start[row, -1 if name == NONE else names.index(name)] = 1
    v = walked(shots, images, start)[n:]
    evidence = logs(v[:, :-1].max(axis=1)) - logs(v[:, -1])
    named = [i for _, rest, _, name in acts for i in rest if name != NONE]
    far = np.ones(len(x), bool)
    if len(named) >= FEW:
        typical = np.median(score[named])
        above = [score[i] - typical for i in named if score[i] >= typical]
        far = (score - typical) / (1.4826 * np.median(above) + 1e-6) < FAR
    apart = (score < limit) & ((evidence < KEEP) | far) | (evidence < DROP)
    for _, _, off, name in acts:
        apart[list(off)] &= name != NONE
    for i, name in labelled.items():
        apart[i] = name == NONE
    return apart, score, limit


def acts_of(seed: int, few: bool) -> list[tuple[Rows, Rows, Rows, int]]:
    """Return answers about groups of classes 0 to 2 and of none of these, with mistakes of the grouping."""
    generator = np.random.default_rng(seed)
    acts: list[tuple[Rows, Rows, Rows, int]] = []
    free = set(range(len(IMAGES)))
    for name, kinds in ((0, (0,)), (1, (1, 1, 1, 5)), (NONE, (4,)), (NONE, (5, 5, 3)), (2, (2, 6))):
        rows = [i for i in generator.permutation(sorted(free)).tolist() if TRUTH[i] in kinds][:16]
        free -= set(rows)
        right = [i for i in rows if (TRUTH[i] if TRUTH[i] < CLASSES else NONE) == name]
        shown = right[:7]
        off = [i for i in rows if i not in right][:2]
        rest = [i for i in rows if i not in shown and i not in off]
        acts.append((shown, rest[: 2 if few else None], off, name))
    return acts


def given(acts: list[tuple[Rows, Rows, Rows, int]]) -> Answers:
    steps: list[list[Said]] = []
    for shown, rest, off, name in acts:
        word = None if name == NONE else NAMES[name]
        steps += [say(shown, word), say(off, word, said="not_class"), say(rest, word, "member")]
    return answered(*steps)


@pytest.mark.parametrize("few", [False, True], ids=["members", "few members"])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_the_dense_form(seed: int, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "BLOCK", 70)  # several blocks
    images, shots = blurred(TRUTH, 3), blurred(SHOT_LABELS, 2)
    acts = acts_of(seed, few)
    apart, score, limit = slowly(images, shots, SHOT_LABELS, acts)
    found = set_apart.judge_apart(
        images, Support(shots, SHOT_LABELS), given(acts), Neighbours.among(images), (shots, SHOT_LABELS)
    )
    assert found.score == pytest.approx(score, abs=5e-3)  # logarithms of float32
    assert found.limit == pytest.approx(limit, abs=1e-3)
    assert found.apart.tolist() == apart.tolist()


def test_a_graph_with_more_rows_is_the_graph_of_all() -> None:
    for count in (4, 12, 60):
        rows, images = IMAGES[:count], IMAGES[100 : 100 + count]
        joined = Neighbours.among(images).after(rows, images).steps()
        whole = Neighbours.among(np.concatenate([rows, images])).steps()
        assert abs(joined - whole).max() < 1e-6


def test_without_its_own_label_an_image_is_judged_as_if_nobody_had_named_it() -> None:
    acts = given(acts_of(0, few=False))
    rows = np.flatnonzero(acts.labels != UNSAID)
    found = judge(acts, judged=rows)
    assert found.without_own[rows] != pytest.approx(found.evidence[rows], abs=0.1)
    for row in rows[::7].tolist():
        other = judge(acts.without(np.array([row])))
        assert found.without_own[row] == pytest.approx(other.evidence[row], abs=2e-3)


def test_nothing_is_apart_before_a_person_has_said_so() -> None:
    untouched = judge(answered())
    assert untouched.apart.tolist() == (untouched.score < untouched.limit).tolist()
    assert untouched.apart.sum() > 100
    assert not judge(answered(), trained=None).apart.any()
    named = judge(answered(say([0, 8], "a"), say([9], "b", said="not_class")))
    assert not named.apart.any()
    stranger = int(np.flatnonzero(TRUTH == 4)[0])
    once = judge(answered(say([0, 8], "a"), say([stranger], None)), judged=np.array([stranger]))
    assert once.apart[stranger]
    assert once.apart.sum() > 50
    assert not once.apart_without_own[stranger]  # without this answer nothing is apart


def test_what_a_person_said_stays() -> None:
    """A stranger that is named is of the class; a known image that is none of these is apart."""
    stranger, known = int(np.flatnonzero(TRUTH == 5)[0]), int(np.flatnonzero(TRUTH == 1)[0])
    others = say(np.flatnonzero(TRUTH == 4)[:5], None)
    assert judge(answered(others)).apart[stranger]
    found = judge(answered(others, say([stranger], "a", "moved"), say([known], None, "moved")))
    assert not found.apart[stranger]
    assert found.apart[known]


def test_an_image_that_was_unticked_among_strangers_is_not_apart() -> None:
    none = np.flatnonzero(TRUTH == 4)
    others = say(none[:5], None)
    assert judge(answered(others)).apart[none[6]]
    assert not judge(answered(others, say(none[6:7], None, said="not_class"))).apart[none[6]]


def test_drawn_labels_are_no_examples_of_the_limit() -> None:
    """So the limit stays what it is when a drawn image is judged without its own label."""
    none = np.flatnonzero(TRUTH == 4)
    one = judge(answered(say(none[:5], None)))
    assert judge(answered(say(none[:5], None), say(none[5:9], None, "drawn"))).limit == one.limit
    assert judge(answered(say(none[:5], None), say(none[5:9], None, "chosen"))).limit != one.limit
    # Of a group the first five, however many are shown.
    assert judge(answered(say(none[:7], None))).limit == one.limit


def test_images_near_the_limit_are_worth_most() -> None:
    found = judge(answered())
    worth = found.near_limit
    assert worth is not None
    nearest = int(np.abs(found.score - found.limit).argmin())
    assert worth.argmax() == nearest
    assert worth.max() <= 1
    single = Support(SUPPORT.features[:1], SUPPORT.labels[:1])
    alone = set_apart.judge_apart(IMAGES, single, answered(), Neighbours.among(IMAGES))
    assert alone.near_limit is None


def test_the_images_least_like_any_class_are_asked_once() -> None:
    asked = least_like(IMAGES, SUPPORT, answered())
    assert asked is not None
    assert len(asked) == 9
    assert (TRUTH[asked] >= CLASSES).all()
    near = (IMAGES @ SUPPORT.means.T).max(axis=1)
    assert near[asked].max() <= np.delete(near, asked).min()
    assert least_like(IMAGES, SUPPORT, answered(say(asked[:1], None))) is None
    assert least_like(IMAGES, SUPPORT, answered(say(asked, None, said="not_class"))) is None
    assert least_like(IMAGES, SUPPORT, answered(say(asked, None, said="skip"))) is None
    other = least_like(IMAGES, SUPPORT, answered(say(asked, "a", "moved")))
    assert other is not None
    assert not set(other.tolist()) & set(asked.tolist())
    assert least_like(IMAGES, Support(IMAGES[:0], np.empty(0, np.int64)), answered()) is None
    few = around(np.array([0, 1, 2]), seed=4)
    assert least_like(few, SUPPORT, answered(count=3)) is not None
