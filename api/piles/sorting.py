"""The sort of a pile: its images in classes, what to ask next, and how much is right."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from api.classify.scoring import ModelRequest
from api.piles.features import Rows
from api.serving.service import Serving, Subject
from clipcite.types.class_names import same_class
from clipcite.types.classify import Calibration, ClassName, Options
from clipcite.types.piles import MIN_DRAWN, NOT_MEASURED, AskedImage, Measured, PileGroup, SortedImage
from core.admission import Take
from core.answers import Answer
from core.clip.inference.answers import Answers
from core.clip.inference.graph import Floats, Ints, Neighbours
from core.clip.inference.groups import SHOWN
from core.clip.inference.groups import groups as groups_of
from core.clip.inference.pile import NONE
from core.clip.inference.set_apart import least_like
from core.clip.inference.sort import SortedPile, draw_order, share_interval, sort_pile
from core.clip.inference.which_next import which_next

DRAWN_OF_ASKED = 5
"""Of the images that are asked about one by one, one of this many is drawn at random."""
LEAST_LIKE_AFTER = 10
"""Number of answered groups after which the images least like any class are asked about, before other groups.
With a model that has training images, they are asked about first of all."""
COPIES, SCORE_COPIES = 6, 3
"""Number of copies of features and scores that are in memory at once, in float32."""


def sort(
    serving: Serving,
    rows: Rows,
    answers: Sequence[Answer],
    options: Options,
    model: Subject,
    *,
    owner: str,
    take: Take,
    seed: str,
    groups: int = 0,
    ask: int = 0,
    draw: int = 0,
    something_else: bool = True,
) -> dict[str, Any]:
    """Return the fields of a `PileSort` that depend on images and answers.

    Args:
        rows: features [N, D] of the images, in order of position.
        answers: what people said, oldest first.
        options: `class_names` are those of the pile; None for the model's. Names in answers join them.
        owner: owner of the request, whose memory budget it uses.
        take: takes more from the budget `serving.images`, for prompts.
        seed: id of the pile. It decides which images are drawn at random.
        groups: maximum number of groups.
        ask: number of images to ask about one by one.
        draw: number of images that are all drawn at random, instead of those of `ask`.
        something_else: False sets only those images apart that a person marked.

    Raises:
        The errors of `api.classify.scoring.classify`.
    """
    said = Answers.of(len(rows), answers)
    trained = [] if isinstance(model, str) else model.classes
    names = options.class_names or [*map(ClassName, trained)]
    known = {same_class(each.name) for each in names}
    names = [*names, *(ClassName(name) for name in said.used_names if same_class(name) not in known)]
    order = draw_order(seed, len(rows))
    unchecked = order[~said.alone[order]]
    size = 4 * len(rows) * (COPIES * rows.shape[1] + SCORE_COPIES * len(names))
    with serving.hold(model, options.alpha) as held, serving.memory.hold(owner, size):
        images = F.normalize(torch.from_numpy(rows.astype(np.float32)), dim=-1)
        nearest = _neighbours(serving, rows, images.numpy())
        if not names:
            return {
                "model": held.name,
                "alpha": held.alpha,
                "reason": "There are no class names yet.",
                "images": [_unsorted(at, label) for at, label in enumerate(said.labels.tolist())],
                "groups": _groups(images.numpy(), said, nearest, groups, None),
                "ask": _drawn(unchecked[: draw or ask]),
                "unchecked": len(unchecked),
            }
        options = options.model_copy(update={"class_names": names})
        request = ModelRequest(serving, held, options, take)
        request.encode()
        columns = request.classifier.candidates.names
        fitted = held.calibration
        done = sort_pile(
            images,
            request.sorter(),
            said.columns(columns),
            nearest,
            order,
            1.0 if fitted is None else fitted.temperature,
            something_else=something_else,
        )
        measured = _sort_accuracy(done)
        finite = np.isfinite(done.apart.limit)
        return {
            "model": held.name,
            "alpha": held.alpha,
            "class_names": request.kinds(done.scores.rule),
            "method": done.method,
            "reason": done.reason,
            "calibration": Calibration(
                calibrated=False,
                temperature=None if fitted is None else fitted.temperature,
                likeness_limit=0.0 if finite else None,
            ),
            "images": _images(done, columns),
            "groups": _groups(images.numpy(), done.answers, nearest, groups, done),
            "ask": _asked(done, images, unchecked, ask, draw),
            "unchecked": len(unchecked),
            "measured": measured,
            "sentence": _sentence(done.answers, measured),
            "warnings": request.warnings(),
        }


def _neighbours(serving: Serving, rows: Rows, images: Floats) -> Neighbours:
    """Return the neighbours among the images, which stay the same from answer to answer."""
    key = hashlib.blake2b(rows.tobytes()).digest()
    found: Neighbours | None = serving.neighbours.get(key)
    if found is None:
        found = Neighbours.among(images)
        serving.neighbours.put(key, found, found.columns.nbytes + found.values.nbytes)
    return found


# --- places ---


def _unsorted(position: int, label: int) -> SortedImage:
    return SortedImage(position=position, class_name=None, probability=None, something_else=label == NONE)


def _images(done: SortedPile, names: Sequence[str]) -> list[SortedImage]:
    """Return the place of each image."""
    apart, labelled = done.places == NONE, done.answers.labelled
    guessed = np.where(apart, 0, done.places)[:, None]
    chances = np.take_along_axis(done.scores.probabilities.numpy(), guessed, axis=1)[:, 0]
    scores = done.apart.score - done.apart.limit
    columns = (done.places, apart, labelled, chances, scores)
    return [
        SortedImage(
            position=at,
            class_name=None if other else names[place],
            probability=None if other or known else chance,
            something_else=other,
            score=score if np.isfinite(score) else None,
        )
        for at, (place, other, known, chance, score) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def _sort_accuracy(done: SortedPile) -> Measured | None:
    """Return how much of the pile is in the right place. What a person said about an image alone is right."""
    total, count, right = len(done.places), len(done.measuring), int(done.right.sum())
    if count < MIN_DRAWN:
        return None
    wrong = (count - right) / total  # of these, a person has said where they belong
    low, high = share_interval(right, count, total)
    return Measured(
        right=right,
        drawn=count,
        total=total,
        accuracy=right / count + wrong,
        interval=(low + wrong, high + wrong),
    )


def _sentence(said: Answers, measured: Measured | None) -> str:
    """Say how good the sort is, or why that is unknown."""
    if said.checked.all():
        return "Every photo is labelled."
    if measured is None:
        return "Not measured: too many photos were skipped." if said.alone.all() else NOT_MEASURED
    low, high = measured.interval
    return (
        f"{measured.accuracy:.0%} are in the right place (likely {100 * low:.0f} to {100 * high:.0f}), "
        f"measured on {measured.drawn} photos drawn at random."
    )


# --- questions ---


def _drawn(positions: Ints) -> list[AskedImage]:
    return [AskedImage(position=at, drawn=True) for at in positions.tolist()]


def _groups(
    images: Floats,
    answers: Answers,
    nearest: Neighbours,
    most: int,
    done: SortedPile | None,
) -> list[PileGroup]:
    """Return the groups most worth an answer."""
    if not most:
        return []
    value = None if done is None else done.apart.near_limit
    found = [
        PileGroup(kind="alike", shown=members[:SHOWN].tolist(), members=members.tolist())
        for members in groups_of(images, value, answers.seen, nearest)
    ]
    least = None if done is None else least_like(images, done.support, answers)
    now = done is not None and (done.from_model or answers.groups >= LEAST_LIKE_AFTER or not found)
    if least is not None and now:
        found.insert(0, PileGroup(kind="least_like", shown=least.tolist(), members=least.tolist()))
    return found[:most]


def _asked(done: SortedPile, images: Tensor, unchecked: Ints, ask: int, draw: int) -> list[AskedImage]:
    """Return the images to ask about one by one: chosen ones, and one of DRAWN_OF_ASKED drawn at random.

    Something else makes up its share of the chosen ones, nearest the limit first.

    Args:
        unchecked: images that nobody was asked about alone, in the order in which they are drawn.
    """
    if draw or not ask:
        return _drawn(unchecked[:draw])
    drawn = unchecked[: -(-ask // DRAWN_OF_ASKED)]
    rest = np.setdiff1d(np.flatnonzero(~done.answers.labelled & ~done.answers.skipped), drawn)
    apart = rest[done.places[rest] == NONE]
    wanted = min(ask - len(drawn), len(rest))
    share_apart = round(wanted * len(apart) / max(1, len(rest)))
    doubtful = apart[np.argsort(np.abs(done.apart.score - done.apart.limit)[apart])][:share_apart]
    not_asked = np.setdiff1d(np.arange(len(images)), np.setdiff1d(rest, apart))
    chosen = which_next(
        done.scores.probabilities, images, wanted - len(doubtful), not_asked.tolist(), done.missing
    )
    asked = [*chosen, *doubtful.tolist()]
    found = [AskedImage(position=at, drawn=False) for at in asked]
    for number, one in enumerate(_drawn(drawn)):
        found.insert((number + 1) * DRAWN_OF_ASKED - 1, one)
    return found
