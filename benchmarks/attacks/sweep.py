"""Orphaned folders: after a lost database, and after restoring one that is older than the storage."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks.attacks.measure import Limits, Row
from benchmarks.attacks.service import Target, kill
from tests.api import crafted as images

FOLDERS = 10
OLD_SECONDS = 25 * 3600
ROUND_SECONDS = 15
"""Run time of the dispatcher: a few seconds to start, and its first round within a second."""


def rows(small: bool) -> list[Row]:
    return [
        Row(name, title, attack, None, Limits(answer=None), repeats=False, alone=True, seconds=120)
        for name, title, attack in (
            ("S1", f"lost database, {FOLDERS} folders of yesterday's jobs and one new job, swept", lost),
            ("S2", f"database of two nights ago, {FOLDERS} jobs since, swept", restored),
        )
    ]


def lost(target: Target) -> None:
    before = _folders(target)
    for _ in range(FOLDERS):
        _make_job(target)
    old = _folders(target) - before
    # Delete the jobs' rows, as in a fresh database. The tables stay for the running service.
    with closing(_database(target)) as database, database:
        _empty(database)
    _make_job(target)
    _sweep(target, old)


def restored(target: Target) -> None:
    _make_job(target)
    dump = target.data / "dump.db"
    with closing(_database(target)) as database, closing(sqlite3.connect(dump)) as copy:
        database.backup(copy)
    before = _folders(target)
    for _ in range(FOLDERS):
        _make_job(target)
    new = _folders(target) - before
    with closing(sqlite3.connect(dump)) as copy, closing(_database(target)) as database:
        copy.backup(database)
    _sweep(target, new)


def _make_job(target: Target) -> None:
    archive = images.zip_of(images.two_classes(2))
    target.http.post("/adapt", files={"archive": ("a.zip", archive)}).raise_for_status()


def _database(target: Target) -> sqlite3.Connection:
    return sqlite3.connect(target.data / "clipcite.db", timeout=30)


def _empty(database: sqlite3.Connection) -> None:
    """Delete all jobs and their rows in other tables."""
    database.execute("PRAGMA foreign_keys = ON")
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if "job_id" in columns:
            database.execute(f"DELETE FROM {table}")
    database.execute("DELETE FROM jobs")


def _folders(target: Target) -> set[Path]:
    below = target.data / "blobs" / "jobs"
    return set(below.iterdir()) if below.is_dir() else set()


def _sweep(target: Target, mine: set[Path]) -> None:
    """Age all files by a day, run a dispatcher, then the command `sweep` if there is one."""
    old = time.time() - OLD_SECONDS
    for path in (target.data / "blobs").rglob("*"):
        os.utime(path, (old, old))
    dispatcher = target.tree.run("dispatcher", environment=target.environment, data=target.data)
    time.sleep(ROUND_SECONDS)
    kill(dispatcher)
    target.tree.run("sweep", environment=target.environment, data=target.data).wait(60)
    gone = sum(1 for folder in mine if not folder.exists())
    target.note = f"{gone} of {len(mine)} folders deleted"
    if gone:
        target.broken.append(target.note)
