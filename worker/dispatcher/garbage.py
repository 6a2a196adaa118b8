"""Garbage collection in the storage: folders without an owning row are marked, and deleted days later.

    python -m worker.dispatcher.garbage sweep [--dry-run | --yes]    behind `clipcite sweep`
    python -m worker.dispatcher.garbage adopt                        behind `clipcite storage adopt`

Both print JSON. Any number of processes may sweep: marks, claims and limits are rows in the database.
"""

import argparse
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.settings import Settings, get_settings
from core.store import retention
from core.store.accounts import audit, idempotency
from core.store.admin import print_answer
from core.store.db.session import Database, database_now
from core.store.db.tables import Orphan
from core.store.jobs import orphans
from core.store.jobs.checkpoints import folder_of
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger("worker.dispatcher.garbage")
SWEEP_SECONDS = 3_600.0
"""Interval between sweeps, and time until a process's first sweep."""
DELETIONS_SECONDS = 60.0
"""Interval at which interrupted deletions are finished."""
DELETION_AGE = timedelta(minutes=1)
"""Minimum age of a deletion to finish: a request that began it is likely still working on younger ones."""
ROUND_CLAIM = timedelta(minutes=50)
"""Time after a sweep by any dispatcher in which the others skip theirs."""
RETENTION_PAUSE_SECONDS = 0.2
"""Pause between batches of the retention, in which other processes can write to SQLite."""
MIN_CAP = 20
CAP_SHARE = 0.01
"""Maximum deletions per hour: this share of all folders, and at least MIN_CAP."""
OWNED_SHARE = 0.9
"""Share of owned folders from which a storage without an id is taken to belong to this database."""
CHECKPOINT_SHARE, MIN_CHECKPOINT_LOOKS = 0.01, 500
"""Ended jobs to search for checkpoints per sweep: this share of all folders, and at least this number."""
LAYOUT = re.compile(r"jobs/job_[0-9a-z]{26}|models/mdl_[0-9a-z]{26}|probe-[0-9a-f]{16}")
"""Names of the folders that this software makes. Other folders are never marked."""


@dataclass
class Sweep:
    """Outcome of one sweep."""

    folders: int = 0
    """Stored folders of jobs and models."""
    orphans: list[str] = field(default_factory=list)
    """Folders without an owner, including leftover checkpoints and write probes."""
    due: list[str] = field(default_factory=list)
    """Orphans whose grace period is over."""
    deleted: list[str] = field(default_factory=list)
    refusal: str | None = None
    """Reason why due folders were not deleted, with a remedy."""


def bind(database: Database, blobs: Blobs) -> str | None:
    """Write this installation's id into a storage without one that is empty or mostly owned.

    Return why database and storage don't belong together, with a remedy, or None if they do.

    Raises DatabaseUnavailable, StorageUnavailable; the latter also for an empty storage if the database has
    jobs or models.
    """
    if installation.stored_id(blobs) is None:
        installation.check_present(database, blobs)
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
    """Mark orphaned folders, unmark those that have an owner again, and delete those that are due.

    Args:
        grace: minimum time between the discovery of an orphan and its deletion.
        delete: False only marks.
        dry_run: neither marks nor deletes.
        confirmed: a person has agreed, so that share of orphans and limit per hour don't apply.
        should_stop: polled before each deletion.

    Raises StorageUnavailable, DatabaseUnavailable; the next sweep continues.
    """
    problem = installation.problem(database, blobs) if dry_run else bind(database, blobs)
    if problem is not None:
        return Sweep(refusal=problem)
    # Storage first: files are written before their row, so a row that is missing now was never written.
    folders = _folders(blobs)
    probes = [folder for folder in blobs.folders("") if LAYOUT.fullmatch(folder)]
    owned = _owned(database, folders)
    unowned = [folder for folder in folders if folder not in owned and LAYOUT.fullmatch(folder)]
    candidates = unowned + probes
    if not dry_run:
        _mark(database, blobs, candidates)
        _find_checkpoints(database, blobs, len(folders), grace)
    with database.read() as session:
        marks = {mark.prefix: mark for mark in orphans.all_marks(session)}
        now = database_now(session)
    candidates += _leftover_checkpoints(database, marks.values())
    claimed = {prefix for prefix, mark in marks.items() if mark.deleted_at is not None}
    left = sorted(set(candidates) - claimed)
    due = [prefix for prefix in left if prefix in marks and marks[prefix].first_seen <= now - grace]
    outcome = Sweep(len(folders), left, due)
    if not dry_run:
        with database.write() as session:
            installation.find(session, lock=True).folders = len(folders)
    if not due or dry_run or not delete:
        return outcome
    if len(unowned) > orphans.SUSPICIOUS_SHARE * len(folders) and not confirmed:
        outcome.refusal = orphans.suspicion(len(unowned), len(folders))
        return outcome
    cap = None if confirmed else max(MIN_CAP, int(CAP_SHARE * len(folders)))
    for prefix in due:
        if should_stop() or installation.is_held(database):
            break
        with database.write() as session:
            is_ours = orphans.claim(session, prefix, grace=grace, most=cap)
        if is_ours is None:
            outcome.refusal = (
                f"{cap} folders were deleted in the last hour, which is the limit. Later sweeps continue."
            )
            break
        if is_ours:
            blobs.delete_prefix(prefix)
            outcome.deleted.append(prefix)
            logger.info("%s: deleted, because it has no owner", prefix)
    return outcome


def _folders(blobs: Blobs) -> list[str]:
    """Return all folders below `jobs` and `models`, also those not made by this software."""
    return [*blobs.folders("jobs"), *blobs.folders("models")]


def _owned(database: Database, folders: Sequence[str]) -> set[str]:
    owned: set[str] = set()
    for batch in _batches(folders):
        with database.read() as session:
            owned |= orphans.owned(session, batch)
    return owned


def _mark(database: Database, blobs: Blobs, unowned: Sequence[str]) -> None:
    """Make the marks match the stored folders without an owner."""
    with database.read() as session:
        marks = orphans.all_marks(session)
        now = database_now(session)
    existing = {*unowned, *_leftover_checkpoints(database, marks)}
    gone: list[str] = []
    cut_off: list[str] = []
    for mark in marks:
        if mark.deleted_at is None:
            if mark.prefix not in existing:
                gone.append(mark.prefix)
        elif mark.deleted_at < now - orphans.CAP_PERIOD:
            left = mark.prefix in existing and bool(blobs.list(mark.prefix))
            (cut_off if left else gone).append(mark.prefix)
    known = {mark.prefix for mark in marks}
    for change, prefixes in (
        (orphans.unmark, gone),
        (orphans.rearm, cut_off),
        (orphans.mark, [prefix for prefix in unowned if prefix not in known]),
    ):
        for batch in _batches(prefixes):
            with database.write() as session:
                change(session, batch)


def _leftover_checkpoints(database: Database, marks: Iterable[Orphan]) -> set[str]:
    """Return marked checkpoint folders whose job has ended. Listings of job folders don't show them."""
    marked = [mark.prefix for mark in marks if mark.prefix.count("/") > 1]
    return set(marked) - _owned(database, marked)


def _find_checkpoints(database: Database, blobs: Blobs, folders: int, grace: timedelta) -> None:
    """Mark checkpoints that a worker stored after the end of their job. Each job is searched once."""
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


def enforce_retention(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, int]:
    """Delete what is older than the settings `keep_…_days`, in batches. Return the numbers by kind.

    Args:
        guard: returns a context manager that handles the errors of one kind.
    """

    def folders(delete: Callable[[Session, timedelta], list[str]], period: timedelta) -> int:
        with database.write() as session:
            gone = delete(session, period)
        for prefix in gone:
            deletions.finish(database, blobs, prefix)
        return len(gone)

    def rows(delete: Callable[[Session, timedelta], int], period: timedelta) -> int:
        with database.write() as session:
            return delete(session, period)

    kinds: dict[str, tuple[int, Callable[[timedelta], int]]] = {
        "jobs": (settings.keep_jobs_days, partial(folders, retention.delete_jobs)),
        "models": (settings.keep_models_days, partial(folders, retention.delete_models)),
        "images": (settings.keep_images_days, partial(folders, retention.delete_images)),
        "events": (settings.keep_events_days, partial(rows, retention.delete_events)),
        "audit": (settings.keep_audit_days, partial(rows, retention.delete_audit)),
        "webhooks": (settings.keep_webhooks_days, partial(rows, retention.delete_deliveries)),
    }
    deleted = dict.fromkeys(kinds, 0)
    for kind, (days, delete) in kinds.items():
        with guard():
            while days and not should_stop() and (batch := delete(timedelta(days=days))):
                deleted[kind] += batch
        if deleted[kind]:
            logger.info("retention: %s older than %d days deleted (%d)", kind, days, deleted[kind])
    return deleted


def finish_deletions(
    database: Database,
    blobs: Blobs,
    *,
    age: timedelta = DELETION_AGE,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Finish interrupted deletions, and remove expired idempotency keys. Return the deleted prefixes."""
    with database.write() as session:
        idempotency.forget_old(session)
    with database.read() as session:
        left = deletions.left_over(session, age=age)
    finished = []
    for prefix in left:
        if should_stop():
            break
        try:
            if not deletions.finish(database, blobs, prefix):
                break
        except ClipCiteError as error:  # the others may succeed
            logger.warning("%s: %s", prefix, error)
            continue
        logger.info("%s: deletion finished", prefix)
        finished.append(prefix)
    return finished


class Sweeper:
    """A thread for all work on the storage: deletions, retention and sweeps.

    Slow storage therefore does not delay dispatching.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Make a sweeper.

        Args:
            guard: returns a context manager that handles the errors of a part of a round.
        """
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._guard = guard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop the thread, and wait for at most this time. An interrupted deletion is repeated."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        with self._guard():
            problem = bind(self._database, self._blobs)
            if problem is not None:
                logger.error("%s", problem)
        swept = time.monotonic()
        while not self._stop.is_set():
            with self._guard():
                finish_deletions(self._database, self._blobs, should_stop=self._stop.is_set)
            if time.monotonic() >= swept + SWEEP_SECONDS:
                self._retain_and_sweep()
                swept = time.monotonic()
            self._stop.wait(DELETIONS_SECONDS)

    def _retain_and_sweep(self) -> None:
        enforce_retention(
            self._settings,
            self._database,
            self._blobs,
            should_stop=partial(self._stop.wait, RETENTION_PAUSE_SECONDS),
            guard=self._guard,
        )
        if self._settings.sweep != "off":
            with self._guard():
                self._round()

    def _round(self) -> None:
        with self._database.write() as session:
            row = installation.find(session, lock=True)
            now = database_now(session)
            if row.swept_at is not None and now - ROUND_CLAIM < row.swept_at <= now:
                return  # another dispatcher has swept
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
                "%d of %d stored folders have no owner; %d are due, %d deleted",
                len(outcome.orphans),
                outcome.folders,
                len(outcome.due),
                len(outcome.deleted),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    settings = get_settings()

    def answer(database: Database) -> dict[str, Any]:
        database.check()
        result: dict[str, Any] = options.do(settings, database, Blobs.of(settings), options)
        return result

    return print_answer(settings.sqlalchemy_url(), answer)


def _sweep(
    settings: Settings, database: Database, blobs: Blobs, options: argparse.Namespace
) -> dict[str, Any]:
    if not options.dry_run:
        with database.write() as session:
            audit.record(session, "storage.sweep", settings.blobs_url())
    outcome = collect_garbage(
        database,
        blobs,
        grace=timedelta(days=settings.sweep_days),
        dry_run=options.dry_run,
        confirmed=options.yes,
    )
    return asdict(outcome)


def _adopt(
    settings: Settings, database: Database, blobs: Blobs, options: argparse.Namespace
) -> dict[str, Any]:
    with database.write() as session:
        audit.record(session, "storage.adopt", settings.blobs_url())
    installation.adopt(database, blobs)
    folders = _folders(blobs)
    return {"folders": len(folders), "owned": len(_owned(database, folders))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="worker.dispatcher.garbage", description="Garbage collection of stored folders without an owner."
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


if __name__ == "__main__":
    sys.exit(main())
