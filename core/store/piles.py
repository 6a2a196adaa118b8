"""Piles: images that wait for labels, and what people said about them.

Answers are append-only. The last one about an image counts. Each change locks the pile's row and increases
its revision by 1.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from clipcite.types.piles import MAX_PILE_IMAGES, AnswerIn
from core.answers import labels
from core.store.accounts import audit
from core.store.db.ids import new_id
from core.store.db.pagination import page
from core.store.db.session import database_now
from core.store.db.tables import Pile, PileAnswer, PileFeatures, PileImage
from core.store.db.text import sanitize_text
from core.store.errors import Conflict, NotFound, PileNotFound
from core.store.storage import deletions

MAX_ANSWERS = 10 * MAX_PILE_IMAGES
"""Maximum number of answers about a pile."""
PILE_BYTES, IMAGE_BYTES, ANSWER_BYTES = 1_000, 400, 100
"""Size of a row of each table, without class names, for the quota."""
USED_AGAIN = timedelta(hours=1)
BATCH = 500
"""Number of values in a condition. SQLite allows 32,766, and long conditions are slow."""


@dataclass(frozen=True)
class NewImage:
    """An image that is added to a pile."""

    sha256: str
    file: str
    blob_key: str | None
    blob_sha256: str | None
    bytes: int


class GivenAnswer(NamedTuple):
    """An answer of a person about an image: a row of `pile_answers`, of which a pile may have 200,000."""

    position: int
    said: str
    class_name: str | None
    how: str
    created_by: str
    created_at: datetime


def blobs_of(pile_id: str) -> str:
    """Return the folder of the pile's blobs."""
    return f"piles/{pile_id}"


def create(
    session: Session, *, owner: str, name: str, model: str, class_names: list[Any] | None, keeps_images: bool
) -> Pile:
    at = database_now(session)
    row = Pile(
        id=new_id("pil"),
        owner=owner,
        name=sanitize_text(name),
        model=model,
        class_names=class_names,
        keeps_images=keeps_images,
        revision=1,
        images=0,
        labelled=0,
        none=0,
        drawn=0,
        used_names={},
        bytes=PILE_BYTES + bytes_of_names(class_names),
        created_at=at,
        used_at=at,
        created_by=audit.actor().key_id,
    )
    session.add(row)
    session.flush()
    return row


def bytes_of_names(class_names: Sequence[Any] | None) -> int:
    """Return the size of the class names of a pile, for the quota."""
    return len(json.dumps(class_names)) if class_names else 0


def get(session: Session, pile_id: str, *, owner: str, lock: bool = False) -> Pile:
    """Return a pile. Raise PileNotFound if the owner has no such pile.

    Args:
        lock: read the row again and lock it until the transaction ends.
    """
    query = select(Pile).where(Pile.id == sanitize_text(pile_id), Pile.owner == owner)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise PileNotFound(pile_id)
    return row


def list_page(
    session: Session, *, owner: str, name: str | None, limit: int, after: str | None
) -> tuple[list[Pile], bool]:
    """Return a page of piles, newest first, and whether there are more. Raise InvalidCursor."""
    rows = select(Pile) if name is None else select(Pile).where(Pile.name == sanitize_text(name))
    return page(session, rows, Pile, owner=owner, limit=limit, after=after)


def changed(session: Session, pile: Pile) -> None:
    """Note a change of a locked pile."""
    pile.revision += 1
    pile.used_at = database_now(session)
    session.flush()


def is_unnoted(session: Session, pile: Pile) -> bool:
    """Return whether a use of the pile has to be noted, which is at most once an hour."""
    return pile.used_at < database_now(session) - USED_AGAIN


def used(session: Session, pile: Pile) -> None:
    """Note a use of a pile. Nothing else of the row changes."""
    session.execute(update(Pile).where(Pile.id == pile.id).values(used_at=database_now(session)))


def delete(session: Session, pile: Pile) -> None:
    """Delete a pile, and mark its blobs for deletion."""
    session.delete(pile)  # foreign keys cascade
    deletions.mark_for_deletion(session, blobs_of(pile.id))


# --- images ---


def images(session: Session, pile_id: str) -> list[PileImage]:
    """Return all images of a pile in order of position."""
    rows = select(PileImage).where(PileImage.pile_id == pile_id).order_by(PileImage.position)
    return list(session.scalars(rows))


def image(session: Session, pile_id: str, position: int) -> PileImage:
    """Return an image of a pile. Raise NotFound."""
    row = session.get(PileImage, (pile_id, position))
    if row is None:
        raise NotFound("image_not_found", f"The pile {pile_id!r} has no image {position}.")
    return row


def positions_of(session: Session, pile_id: str, hashes: Sequence[str]) -> dict[str, int]:
    """Return the position of each file that the pile has, by SHA-256."""
    found: dict[str, int] = {}
    for start in range(0, len(hashes), BATCH):
        rows = select(PileImage.sha256, PileImage.position).where(
            PileImage.pile_id == pile_id, PileImage.sha256.in_(hashes[start : start + BATCH])
        )
        found |= {sha256: position for sha256, position in session.execute(rows)}
    return found


def having(session: Session, hashes: Sequence[str], *, owner: str) -> list[Pile]:
    """Return the owner's piles with any of these files, those with the most first."""
    counts = Counter[str]()
    for start in range(0, len(hashes), BATCH):
        rows = (
            select(PileImage.pile_id, func.count())
            .join(Pile, Pile.id == PileImage.pile_id)
            .where(Pile.owner == owner, PileImage.sha256.in_(hashes[start : start + BATCH]))
            .group_by(PileImage.pile_id)
        )
        counts.update({pile_id: count for pile_id, count in session.execute(rows)})
    most = [pile_id for pile_id, _ in counts.most_common(10)]
    return [get(session, pile_id, owner=owner) for pile_id in most]


def add_images(session: Session, pile: Pile, new: Sequence[NewImage]) -> dict[str, int]:
    """Add images that a locked pile lacks. Return the position of each file, by SHA-256.

    Raises:
        Conflict: the pile would have too many images.
    """
    if pile.images + len(new) > MAX_PILE_IMAGES:
        raise Conflict(
            "too_many_images",
            f"The pile would have {pile.images + len(new):,} images, and the maximum is "
            f"{MAX_PILE_IMAGES:,}. Make another pile for the rest.",
        )
    rows = [
        {"pile_id": pile.id, "position": pile.images + number, **vars(each)}
        for number, each in enumerate(new)
    ]
    if rows:
        session.execute(insert(PileImage), rows)
    pile.images += len(rows)
    pile.bytes += sum(IMAGE_BYTES + each.bytes for each in new)
    return {row["sha256"]: row["position"] for row in rows}


def add_features(
    session: Session,
    pile: Pile,
    model_key: str,
    blob_key: str,
    positions: Sequence[int],
    *,
    sha256: str,
    size: int,
) -> None:
    """Add features to a locked pile. Their blob must already be stored."""
    session.add(
        PileFeatures(
            pile_id=pile.id,
            model_key=model_key,
            blob_key=blob_key,
            positions=list(positions),
            sha256=sha256,
            bytes=size,
        )
    )
    pile.bytes += size
    session.flush()


def features(session: Session, pile_id: str, model_key: str) -> list[PileFeatures]:
    """Return the parts of the features of a pile for a model, oldest first."""
    mine = (PileFeatures.pile_id == pile_id, PileFeatures.model_key == model_key)
    return list(session.scalars(select(PileFeatures).where(*mine).order_by(PileFeatures.blob_key)))


def featured(session: Session, pile_id: str, model_key: str) -> set[int]:
    """Return the positions of the images that have features for a model."""
    mine = (PileFeatures.pile_id == pile_id, PileFeatures.model_key == model_key)
    return {
        at for positions in session.scalars(select(PileFeatures.positions).where(*mine)) for at in positions
    }


# --- answers ---


def bytes_of_answers(given: Sequence[AnswerIn]) -> int:
    """Return the size of the rows of answers, for the quota."""
    return sum(
        len(answer.positions) * (ANSWER_BYTES + len((answer.class_name or "").encode())) for answer in given
    )


def add_answers(session: Session, pile: Pile, given: Sequence[AnswerIn]) -> None:
    """Append answers about existing images to a locked pile, and count the labels of these images again.

    Raises:
        Conflict: the pile would have too many answers.
    """
    seq = session.scalar(select(func.max(PileAnswer.seq)).where(PileAnswer.pile_id == pile.id)) or 0
    total = seq + sum(len(answer.positions) for answer in given)
    if total > MAX_ANSWERS:
        raise Conflict(
            "too_many_answers",
            f"The pile would have {total:,} answers, and the maximum is {MAX_ANSWERS:,}. Train a model with "
            "them and begin another pile.",
        )
    who, at = audit.actor().key_id, database_now(session)
    new = [
        GivenAnswer(position, answer.said, answer.class_name, answer.counts_as, who, at)
        for answer in given
        for position in answer.positions
    ]
    earlier = answers(session, pile.id, sorted({answer.position for answer in new}))
    rows = [{"pile_id": pile.id, "seq": seq + n, **answer._asdict()} for n, answer in enumerate(new, 1)]
    session.execute(insert(PileAnswer), rows)
    pile.bytes += bytes_of_answers(given)
    names = {**pile.used_names}
    for answer in given:
        if answer.class_name is not None:
            names.setdefault(answer.class_name, 0)
    for found, sign in ((labels(earlier), -1), (labels([*earlier, *new]), 1)):
        for label in found.values():
            counted = label.given
            if counted is None:
                continue
            pile.labelled += sign
            pile.none += sign * (counted.said == "none")
            pile.drawn += sign * label.drawn
            if counted.class_name is not None:
                names[counted.class_name] += sign
    pile.used_names = names


def answers(session: Session, pile_id: str, about: Sequence[int] | None = None) -> list[GivenAnswer]:
    """Return the answers about a pile, oldest first.

    Args:
        about: positions, each once. Only answers about these images are returned, oldest first for each.
    """
    columns = [getattr(PileAnswer, name) for name in GivenAnswer._fields]
    mine = select(*columns).where(PileAnswer.pile_id == pile_id)
    if about is None:
        return [GivenAnswer._make(row) for row in session.execute(mine.order_by(PileAnswer.seq))]
    some = mine.order_by(PileAnswer.position, PileAnswer.seq)  # the index has this order
    return [
        GivenAnswer._make(row)
        for start in range(0, len(about), BATCH)
        for row in session.execute(some.where(PileAnswer.position.in_(about[start : start + BATCH])))
    ]


def delete_unused(session: Session, older_than: timedelta, batch: int) -> list[str]:
    """Delete a batch of unused piles. Return the folders to delete after the commit."""
    before = database_now(session) - older_than
    old = select(Pile).where(Pile.used_at < before).order_by(Pile.used_at).limit(batch)
    rows = session.scalars(old.with_for_update(skip_locked=True)).all()
    for row in rows:
        delete(session, row)
    return [blobs_of(row.id) for row in rows]


def stored_bytes(session: Session, owner: str) -> int:
    """Return the bytes of the owner's piles."""
    return int(
        session.scalars(select(func.coalesce(func.sum(Pile.bytes), 0)).where(Pile.owner == owner)).one()
    )
