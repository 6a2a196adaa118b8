"""Invariants that hold after any faults, checked on the database, the storage and the event log."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from clipcite.types.jobs import FINAL
from core.store.db.session import Database
from core.store.db.tables import FAILED, SUCCEEDED, Deletion, Job, JobEvent, JobImage, Model
from core.store.errors import StorageFull, StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from worker.dispatcher.cleanup import finish_deletions

STARTED = "started"
FREE = {"worker_stopped", StorageFull.code, StorageUnavailable.code}
"""Reasons of a requeue that spends no attempt."""


@dataclass(frozen=True)
class Finding:
    """One invariant, the number of items checked, and its violations."""

    name: str
    checked: int
    broken: list[str]


@dataclass(frozen=True)
class Truth:
    """All rows, in one snapshot."""

    jobs: dict[str, Job]
    events: dict[str, list[JobEvent]]
    models: list[Model]
    images: list[JobImage]
    deletions: list[str]
    """Prefixes that will be deleted."""

    @classmethod
    def read(cls, database: Database) -> "Truth":
        with database.read() as session:
            jobs = {job.id: job for job in session.scalars(select(Job))}
            events: dict[str, list[JobEvent]] = {job_id: [] for job_id in jobs}
            rows = select(JobEvent).where(JobEvent.type != "progress")
            for event in session.scalars(rows.order_by(JobEvent.job_id, JobEvent.seq)):
                events[event.job_id].append(event)
            models = list(session.scalars(select(Model)))
            images = list(session.scalars(select(JobImage)))
            return cls(jobs, events, models, images, list(session.scalars(select(Deletion.prefix))))


def check(
    database: Database,
    blobs: Blobs,
    accepted: Mapping[str, str],
    *,
    poison: Collection[str] = (),
    cancelled: Collection[str] = (),
    max_attempts: int,
) -> list[Finding]:
    """Do the deletions that are due, like the dispatcher, then check all invariants.

    Args:
        accepted: job ids by the key (and name) of the requests with status 202.
        poison: ids of jobs that should fail.
        cancelled: ids of jobs that may have been cancelled.
    """
    finish_deletions(database, blobs)
    truth = Truth.read(database)
    return [
        _accepted_once(truth, accepted),
        _all_ended(truth, accepted),
        _ended_well(truth, accepted, poison, cancelled),
        _final_is_final(truth),
        _published_once(truth),
        _attempts(truth, max_attempts),
        _files(truth, blobs),
        _no_orphans(truth, blobs),
    ]


def _accepted_once(truth: Truth, accepted: Mapping[str, str]) -> Finding:
    named = Counter(job.name for job in truth.jobs.values())
    broken = [f"{key}: no row {job_id}" for key, job_id in accepted.items() if job_id not in truth.jobs]
    broken += [f"{key}: {named[key]} jobs" for key in accepted if named[key] != 1]
    return Finding("every 202 is one row, every key one job", len(accepted), broken)


def _all_ended(truth: Truth, accepted: Mapping[str, str]) -> Finding:
    jobs = [truth.jobs[job_id] for job_id in accepted.values() if job_id in truth.jobs]
    return Finding(
        "every job ended", len(jobs), [f"{j.id}: {j.status}" for j in jobs if j.status not in FINAL]
    )


def _ended_well(
    truth: Truth, accepted: Mapping[str, str], poison: Collection[str], cancelled: Collection[str]
) -> Finding:
    broken = []
    for job_id in accepted.values():
        job = truth.jobs.get(job_id)
        wanted = {FAILED} if job_id in poison else {SUCCEEDED}
        if job is None or (job.status not in wanted and job_id not in cancelled):
            broken.append(f"{job_id}: {job and (job.status, job.error_code, job.error_detail)}")
    return Finding("succeeded, but for the intended poison", len(accepted), broken)


def _final_is_final(truth: Truth) -> Finding:
    broken = []
    for job_id, events in truth.events.items():
        kinds = [event.type for event in events]
        status = truth.jobs[job_id].status
        finals = [kind for kind in kinds if kind in FINAL]
        if status in FINAL and (finals != [status] or kinds[-1] != status):
            broken.append(f"{job_id}: {status} after {kinds}")
    return Finding("a final state is the last event, and the only one", len(truth.events), broken)


def _published_once(truth: Truth) -> Finding:
    published = Counter(model.job_id for model in truth.models)
    broken = [f"{job_id}: {count} models" for job_id, count in published.items() if count > 1]
    ids = {model.id for model in truth.models}
    for job in truth.jobs.values():
        if (job.status == SUCCEEDED) != (job.model_id in ids):
            broken.append(f"{job.id}: {job.status}, model {job.model_id}")
    return Finding("one model per job that succeeded, none for another", len(truth.jobs), broken)


def _attempts(truth: Truth, max_attempts: int) -> Finding:
    broken = []
    for job in truth.jobs.values():
        events = truth.events[job.id]
        begun = sum(event.type == STARTED for event in events)
        requeued = sum(e.type == "requeued" and e.data.get("reason") in FREE for e in events)
        if job.attempts > max_attempts or job.attempts != begun - requeued:
            broken.append(f"{job.id}: {job.attempts} attempts, {begun} starts, {requeued} requeued")
    return Finding(f"at most {max_attempts} attempts, each a start in the log", len(truth.jobs), broken)


def _files(truth: Truth, blobs: Blobs) -> Finding:
    wanted = {model.weights_key: model.sha256 for model in truth.models}
    wanted |= {image.blob_key: image.sha256 for image in truth.images}
    stored = {blob.key for blob in blobs.list("")}
    broken = [key for key in wanted if key not in stored]
    broken += [model.manifest_key for model in truth.models if model.manifest_key not in stored]
    for key in wanted.keys() & stored:
        if hashlib.sha256(blobs.get(key)).hexdigest() != wanted[key]:
            broken.append(f"{key}: other bytes")
    return Finding("every image and weight is there, with its hash", len(wanted), broken)


def _no_orphans(truth: Truth, blobs: Blobs) -> Finding:
    """Check that each file has either an owner or a deletion, never both."""
    owned = {image.blob_key for image in truth.images} | {installation.KEY}
    owned |= {key for model in truth.models for key in (model.weights_key, model.manifest_key)}
    owned |= {job.report_key for job in truth.jobs.values() if job.report_key is not None}
    stored = {blob.key for blob in blobs.list("")}
    doomed = {key for key in stored if any(key.startswith(prefix) for prefix in truth.deletions)}
    broken = [f"{key}: no owner and no deletion" for key in sorted(stored - owned - doomed)]
    broken += [f"{key}: has an owner and a deletion" for key in sorted(owned & doomed)]
    return Finding("each file has either an owner or a deletion", len(stored), broken)
