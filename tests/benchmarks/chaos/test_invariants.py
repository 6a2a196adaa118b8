"""Each invariant, violated on purpose and found by its checker."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from benchmarks.chaos.invariants import check
from clipcite.types.images import Image
from core.clip.weights import manifest
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, JobEvent, Model
from core.store.jobs import jobs, lifecycle
from core.store.jobs.lifecycle import append_event
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, bucket, claimed, create_job, new_model, publish

IMAGE, WEIGHTS = b"an image", b"weights"
FILES = (manifest.WEIGHTS, manifest.MANIFEST)


@dataclass
class Store:
    """One succeeded job with its files."""

    database: Database
    blobs: Blobs
    job_id: str
    model_id: str

    def broken(self, *, poison: tuple[str, ...] = (), cancelled: tuple[str, ...] = ()) -> set[str]:
        findings = check(
            self.database,
            self.blobs,
            {"shots": self.job_id},
            poison=poison,
            cancelled=cancelled,
            max_attempts=3,
        )
        return {finding.name for finding in findings if finding.broken}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Store:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    if getattr(request, "param", "folder") == "bucket":
        blobs = bucket(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket"))
    installation.check(database, blobs, bind=True)
    job_id, model_id = new_id("job"), new_id("mdl")
    blobs.put(f"jobs/{job_id}/0", IMAGE)
    image = Image(f"jobs/{job_id}/0", "red fox", file_name="a.jpg", sha256=sha256(IMAGE), bytes=len(IMAGE))
    with database.write() as session:
        create_job(
            session,
            id=job_id,
            owner=OWNER,
            name="shots",
            config={},
            classes=[],
            warnings=[],
            images=[image],
        )
    claim = claimed(database, job_id)
    for file in FILES:
        blobs.put(f"models/{model_id}/{file}", WEIGHTS)
    blobs.put(jobs.report_of(job_id, model_id), b"{}")
    model = new_model(id=model_id, sha256=sha256(WEIGHTS))
    assert publish(database, claim, model, evaluate=True)
    with database.write() as session:
        deletions.announce(session, jobs.report_of(job_id, model_id))
        assert lifecycle.finish(session, claim, {"verdict": "better"}, jobs.report_of(job_id, model_id))
    return Store(database, blobs, job_id, model_id)


@pytest.mark.parametrize("store", ["folder", "bucket"], indirect=True)
def test_an_intact_store_violates_nothing(store: Store) -> None:
    assert store.broken() == set()


def test_a_job_that_should_have_failed(store: Store) -> None:
    assert store.broken(poison=(store.job_id,)) == {"succeeded, but for the intended poison"}


def changed(store: Store, **values: object) -> None:
    with store.database.write() as session:
        session.execute(update(Job).values(**values))


def event_added(store: Store, kind: str) -> None:
    with store.database.write() as session:
        append_event(session, store.job_id, at=database_now(session), type=kind)


def row_gone(store: Store) -> None:
    with store.database.write() as session:
        session.execute(delete(JobEvent))
        session.execute(delete(Job))


def published_twice(store: Store) -> None:
    with store.database.write() as session:
        first = session.get(Model, store.model_id)
        assert first is not None
        columns = {c.name: getattr(first, c.name) for c in Model.__table__.columns}
        session.add(Model(**{**columns, "id": new_id("mdl")}))


def other_bytes(store: Store) -> None:
    store.blobs.delete_prefix(f"models/{store.model_id}")
    for file in FILES:
        store.blobs.put(f"models/{store.model_id}/{file}", b"flipped")


BREAKAGES: dict[str, tuple[Callable[[Store], None], str]] = {
    "lost": (row_gone, "every 202 is one row, every key one job"),
    "never ends": (lambda s: changed(s, status="running"), "every job ended"),
    "failed": (lambda s: changed(s, status="failed"), "succeeded, but for the intended poison"),
    "ran on": (lambda s: event_added(s, "started"), "a final state is the last event, and the only one"),
    "ended twice": (lambda s: event_added(s, "failed"), "a final state is the last event, and the only one"),
    "published twice": (published_twice, "one model per job that succeeded, none for another"),
    "too often": (lambda s: changed(s, attempts=4), "at most 3 attempts, each a start in the log"),
    "uncounted": (lambda s: changed(s, attempts=2), "at most 3 attempts, each a start in the log"),
    "image gone": (
        lambda s: s.blobs.delete_prefix(f"jobs/{s.job_id}"),
        "every image and weight is there, with its hash",
    ),
    "other bytes": (other_bytes, "every image and weight is there, with its hash"),
    "orphan": (
        lambda s: s.blobs.put(f"models/{s.model_id}/more", b"x"),
        "each file has either an owner or a deletion",
    ),
    "report of no model": (
        lambda s: s.blobs.put(jobs.report_of(s.job_id, new_id("mdl")), b"{}"),
        "each file has either an owner or a deletion",
    ),
    "a deletion of what is needed": (
        lambda s: deletion(s, f"models/{s.model_id}"),
        "each file has either an owner or a deletion",
    ),
    "not recorded": (
        lambda s: s.blobs.put("jobs/unknown/0", b"x"),
        "each file has either an owner or a deletion",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_each_violation_is_found(store: Store, breakage: str) -> None:
    do, name = BREAKAGES[breakage]
    do(store)
    assert name in store.broken()


def deletion(store: Store, prefix: str) -> None:
    with store.database.write() as session:
        deletions.announce(session, prefix)


def test_files_that_are_being_stored_are_not_violations(store: Store) -> None:
    for prefix in (f"models/{new_id('mdl')}", jobs.report_of(store.job_id, new_id("rep"))):
        deletion(store, prefix)
        store.blobs.put(prefix if prefix.endswith(".json") else f"{prefix}/weights", b"{}")
    assert store.broken() == set()


def test_deliberately_cancelled_jobs_are_allowed(store: Store) -> None:
    changed(store, status="cancelled", model_id=None)
    store.blobs.delete(jobs.report_of(store.job_id, store.model_id))
    store.blobs.delete_prefix(f"models/{store.model_id}")
    with store.database.write() as session:
        session.execute(delete(Model))
        session.execute(update(JobEvent).where(JobEvent.type == "succeeded").values(type="cancelled"))
    assert store.broken() == {"succeeded, but for the intended poison"}
    assert store.broken(cancelled=(store.job_id,)) == set()
