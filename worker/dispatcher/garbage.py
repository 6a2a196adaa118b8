"""Garbage collection in the storage: folders that no row owns are marked, and deleted days later.

    python -m worker.dispatcher.garbage sweep [--dry-run | --yes]    which is `clipcite collect_garbage`
    python -m worker.dispatcher.garbage adopt                        which is `clipcite storage adopt`

Both answer in JSON. Any number of processes may sweep: marks, claims and limits are rows.
"""

import argparse
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from core.errors import ClipCiteError
from core.settings import Settings, get_settings
from core.store.accounts import idempotency
from core.store.admin import print_answer
from core.store.db.session import Database, database_now
from core.store.db.tables import Orphan
from core.store.jobs import orphans
from core.store.jobs.checkpoints import folder_of
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger("worker.dispatcher.garbage")
SWEEP_SECONDS = 3_600.0
"""Until the first sweep of a process, and between two."""
ROUND_CLAIM = timedelta(minutes=50)
"""A sweep by any dispatcher within so long stands for the others' sweep."""
MIN_CAP = 20
CAP_SHARE = 0.01
"""Deleted folders per hour: this share of all, and at least MIN_CAP."""
OWNED_SHARE = 0.9
"""Owned folders that make a storage without an id this database's."""
CHECKPOINT_SHARE, MIN_CHECKPOINT_LOOKS = 0.01, 500
"""Ended jobs whose checkpoints are looked for in one sweep, against all folders."""
LAYOUT = re.compile(r"jobs/job_[0-9a-z]{26}|models/mdl_[0-9a-z]{26}|probe-[0-9a-f]{16}")
"""Folders that this software makes. Any other is never marked."""


@dataclass
class Sweep:
    """Outcome of one look at the storage."""

    folders: int = 0
    """Stored folders of jobs and models."""
    orphans: list[str] = field(default_factory=list)
    """Folders that nobody owns, leftover checkpoints and write probes included."""
    due: list[str] = field(default_factory=list)
    """Orphans that were first seen longer ago than the grace."""
    deleted: list[str] = field(default_factory=list)
    refusal: str | None = None
    """Reason why less than what is due was deleted, and what to do."""


def bind(database: Database, blobs: Blobs) -> str | None:
    """Give a storage without an id this installation's, if it is empty or nearly all of it is owned.

    Returns why they don't belong together, and what to do; None if they do.
    """
    if installation.stored_id(blobs) is None:
        folders = _folders(blobs)
        if len(_owned(database, folders)) >= OWNED_SHARE * len(folders):
            installation.write(database, blobs)
        else:
            installation.refuse(database)
    return installation.problem(database, blobs)


def collect_garbage(
    database: Database,
    blobs: Blobs,
    *,
    grace: timedelta,
    delete: bool = True,
    dry_run: bool = False,
    confirmed: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Mark what nobody owns, unmark what is owned again, and delete what is due.

    Args:
        grace: least time between the first look at an orphan and its deletion.
        delete: False only marks.
        dry_run: neither marks nor deletes.
        confirmed: a person has agreed: neither the share of orphans nor the limit per hour counts.

    Raises StorageUnavailable, DatabaseUnavailable; the next sweep goes on.
    """
    problem = installation.problem(database, blobs) if dry_run else bind(database, blobs)
    if problem is not None:
        return Sweep(refusal=problem)
    # The storage first: files come before their row, so a row that is missing afterwards is missing.
    folders = _folders(blobs)
    probes = [folder for folder in blobs.folders("") if LAYOUT.fullmatch(folder)]
    owned = _owned(database, folders)
    found = [folder for folder in folders if folder not in owned and LAYOUT.fullmatch(folder)]
    unowned = len(found)
    found += probes
    if not dry_run:
        _mark(database, blobs, found)
        _find_checkpoints(database, blobs, len(folders), grace)
    with database.read() as session:
        marks = {mark.prefix: mark for mark in orphans.all_marks(session)}
        now = database_now(session)
    found += _leftover_checkpoints(database, marks.values())
    claimed = {prefix for prefix, mark in marks.items() if mark.deleted_at is not None}
    left = sorted(set(found) - claimed)
    due = [prefix for prefix in left if prefix in marks and marks[prefix].first_seen <= now - grace]
    outcome = Sweep(len(folders), left, due)
    if not dry_run:
        with database.write() as session:
            installation.find(session, lock=True).folders = len(folders)
    if not due or dry_run or not delete:
        return outcome
    if unowned > orphans.SUSPICIOUS_SHARE * len(folders) and not confirmed:
        outcome.refusal = orphans.suspicion(unowned, len(folders))
        return outcome
    cap = None if confirmed else max(MIN_CAP, int(CAP_SHARE * len(folders)))
    for prefix in due:
        if should_stop():
            break
        with database.write() as session:
            is_ours = orphans.claim(session, prefix, grace=grace, most=cap)
        if is_ours is None:
            outcome.refusal = (
                f"{cap} folders were deleted within the last hour, which is the limit. The next sweeps go on."
            )
            break
        if is_ours:
            blobs.delete_prefix(prefix)
            outcome.deleted.append(prefix)
            logger.info("%s: deleted, nobody owns it", prefix)
    return outcome


def _folders(blobs: Blobs) -> list[str]:
    """All of jobs and models, of whatever layout."""
    return [*blobs.folders("jobs"), *blobs.folders("models")]


def _owned(database: Database, folders: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in _batches(folders):
        with database.read() as session:
            found |= orphans.owned(session, some)
    return found


def _mark(database: Database, blobs: Blobs, found: Sequence[str]) -> None:
    """Bring the marks in line with what is stored and not owned."""
    with database.read() as session:
        marks = orphans.all_marks(session)
        now = database_now(session)
    there = {*found, *_leftover_checkpoints(database, marks)}
    gone: list[str] = []
    cut_off: list[str] = []
    for mark in marks:
        if mark.deleted_at is None:
            if mark.prefix not in there:
                gone.append(mark.prefix)
        elif mark.deleted_at < now - orphans.CAP_PERIOD:
            left = mark.prefix in there and bool(blobs.list(mark.prefix))
            (cut_off if left else gone).append(mark.prefix)
    known = {mark.prefix for mark in marks}
    for change, prefixes in (
        (orphans.unmark, gone),
        (orphans.rearm, cut_off),
        (orphans.mark, [prefix for prefix in found if prefix not in known]),
    ):
        for some in _batches(prefixes):
            with database.write() as session:
                change(session, some)


def _leftover_checkpoints(database: Database, marks: Iterable[Orphan]) -> set[str]:
    """Of the marked ones, which no listing of folders shows: those whose job has ended."""
    marked = [mark.prefix for mark in marks if mark.prefix.count("/") > 1]
    return set(marked) - _owned(database, marked)


def _find_checkpoints(database: Database, blobs: Blobs, folders: int, grace: timedelta) -> None:
    """Mark the checkpoints of ended jobs, each job looked at once: a worker stored them too late."""
    looks = max(MIN_CHECKPOINT_LOOKS, int(CHECKPOINT_SHARE * folders))
    while looks > 0:
        with database.read() as session:
            ended = orphans.ended_jobs(session, ended_for=grace)
        if not ended:
            return
        left = [(job_id, at) for job_id, at in ended if blobs.list(folder_of(job_id))]
        with database.write() as session:
            for job_id, at in left:
                orphans.mark_checkpoints(session, job_id, at)
            installation.find(session, lock=True).checkpoints_until = ended[-1][1]
        looks -= len(ended)


def _batches(prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(prefixes), orphans.BATCH_SIZE):
        yield prefixes[start : start + orphans.BATCH_SIZE]


class Sweeper:
    """Sweeps in a thread of its own, so that a slow storage does not hold up the dispatching."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`guard` is entered around each attempt, and takes care of its errors."""
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._guard = guard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ask the thread to end, and wait for at most that long: a deletion that is cut off is repeated."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        with self._guard():
            problem = bind(self._database, self._blobs)
            if problem is not None:
                logger.error("%s", problem)
        if self._settings.sweep == "off":
            return
        while not self._stop.wait(SWEEP_SECONDS):
            with self._guard():
                self._round()

    def _round(self) -> None:
        with self._database.write() as session:
            row = installation.find(session, lock=True)
            now = database_now(session)
            if row.swept_at is not None and now - ROUND_CLAIM < row.swept_at <= now:
                return  # another dispatcher's
            row.swept_at = now
        outcome = collect_garbage(
            self._database,
            self._blobs,
            grace=timedelta(days=self._settings.sweep_days),
            delete=self._settings.sweep == "on",
            should_stop=self._stop.is_set,
        )
        if outcome.refusal is not None:
            logger.warning("%s", outcome.refusal)
        if outcome.orphans:
            logger.info(
                "Nobody owns %d of %d stored folders; %d are due, %d deleted",
                len(outcome.orphans),
                outcome.folders,
                len(outcome.due),
                len(outcome.deleted),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    settings = get_settings()

    def answer(database: Database) -> dict[str, Any]:
        database.check()
        found: dict[str, Any] = given.do(settings, database, Blobs.of(settings), given)
        return found

    return print_answer(settings.sqlalchemy_url(), answer)


def _sweep(settings: Settings, database: Database, blobs: Blobs, given: argparse.Namespace) -> dict[str, Any]:
    outcome = collect_garbage(
        database,
        blobs,
        grace=timedelta(days=settings.sweep_days),
        dry_run=given.dry_run,
        confirmed=given.yes,
    )
    return asdict(outcome)


def _adopt(settings: Settings, database: Database, blobs: Blobs, given: argparse.Namespace) -> dict[str, Any]:
    installation.adopt(database, blobs)
    folders = _folders(blobs)
    return {"folders": len(folders), "owned": len(_owned(database, folders))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="worker.dispatcher.garbage", description="Stored folders that nobody owns."
    )
    verbs = parser.add_subparsers(required=True)
    sweeping = verbs.add_parser("sweep")
    how = sweeping.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true")
    how.add_argument("--yes", action="store_true")
    sweeping.set_defaults(do=_sweep)
    adopting = verbs.add_parser("adopt")
    adopting.set_defaults(do=_adopt)
    return parser


DELETION_AGE = timedelta(minutes=1)
"""Younger ones are likely being worked on by the request that began them."""


def finish_deletions(database: Database, blobs: Blobs, *, age: timedelta = DELETION_AGE) -> list[str]:
    """Finish the deletions that were cut off, and forget what no retry can ask for any more."""
    with database.write() as session:
        idempotency.forget_old(session)
    with database.read() as session:
        left = deletions.left_over(session, age=age)
    finished = []
    for prefix in left:
        try:
            deletions.finish(database, blobs, prefix)
        except ClipCiteError as error:  # the others may go
            logger.warning("%s: %s", prefix, error)
            continue
        logger.info("%s: its deletion is finished", prefix)
        finished.append(prefix)
    return finished


if __name__ == "__main__":
    sys.exit(main())
