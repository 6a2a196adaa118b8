"""Jobs and models for the tests of the store, and lease expiry on demand."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clipcite.types.folders import Split
from clipcite.types.images import Image
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest
from core.settings import Settings
from core.store.accounts import owners
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, JobEvent, Model
from core.store.jobs import jobs, lifecycle
from core.store.jobs.lifecycle import Claim, NewJob
from core.store.registry import models
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from tests.servers import bucket_access

OWNER = DEFAULT_OWNER
CONTENT = [b"first image", b"second image"]


def new_job(database: Database, **given: Any) -> str:
    with database.write() as session:
        return create_job(session, **given).id


def create_job(session: Session, **given: Any) -> Job:
    """Create a job as a request does, which announces its blobs first."""
    fields: dict[str, Any] = {
        "id": new_id("job"),
        "owner": OWNER,
        "name": None,
        "config": {"backbone": "starter", "alpha": 0.5},
        "classes": [{"name": "red fox", "images": 2, "test_images": 0}],
        "warnings": [],
        "images": [new_image("a.jpg"), new_image("b.jpg")],
        **given,
    }
    reserved = fields.pop("reserved_bytes", 0)
    deletions.announce(session, jobs.blobs_of(fields["id"]))
    return lifecycle.create(session, NewJob(**fields), reserved_bytes=reserved)


def submit(
    database: Database,
    settings: Settings | None = None,
    once: IdempotencyClaim | None = None,
    *,
    image_bytes: int = 3,
) -> str:
    """Submit a job with one image of this size, as a request does. Return the id in the answer."""
    from api.jobs.submission import submit_job  # Imports torch, which most tests of the store do without.

    job_id = new_id("job")
    with database.write() as session:
        deletions.announce(session, jobs.blobs_of(job_id))
        job = submit_job(
            session,
            settings or Settings(),
            once,
            NewJob(
                id=job_id,
                owner=OWNER,
                name=None,
                config={"backbone": "starter"},
                classes=[],
                warnings=[],
                images=[new_image("a.jpg", bytes=image_bytes)],
            ),
        )
        return job.id


def new_image(file_name: str, split: Split = "train", *, bytes: int = 3) -> Image:
    return Image("jobs/x/1", "red fox", split, file_name, sha256="0" * 64, bytes=bytes)


@dataclass(frozen=True)
class NewModel:
    """A model to publish."""

    id: str
    name: str | None
    manifest: Manifest


def new_model(
    *, id: str | None = None, name: str | None = None, classes: Sequence[str] = ("red fox",), **given: Any
) -> NewModel:
    fields: dict[str, Any] = {
        "sha256": "0" * 64,
        "bytes": 5_000_000_000,
        "backbone": "starter",
        "backbone_sha256": "0" * 64,
        "image_size": 160,
        "config": {
            "alpha": 0.1 + 0.2,
            "templates": ["a photo of a {}."],
            "prompts": {"red fox": ["a fox"]},
        },
        "delta_format": "full",
        **given,
    }
    return NewModel(id or new_id("mdl"), name, Manifest(class_names=tuple(classes), **fields))


def claimed(database: Database, job_id: str, *, lease_seconds: float = 30) -> Claim:
    with database.write() as session:
        claim = lifecycle.claim(session, job_id, worker="w1", lease_seconds=lease_seconds)
    assert claim is not None
    return claim


def job_of(database: Database, job_id: str, *, owner: str = OWNER) -> Job:
    with database.read() as session:
        return jobs.get(session, job_id, owner=owner)


def events_of(database: Database, job_id: str, after: int = 0) -> list[JobEvent]:
    """Return the job's events with a greater number than `after`, in order."""
    later = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after)
    with database.read() as session:
        return list(session.scalars(later.order_by(JobEvent.seq)))


def types_of(database: Database, job_id: str) -> list[str]:
    """Return the types of the job's events without progress. Asserts that their numbers grow."""
    events = events_of(database, job_id)
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    return [event.type for event in events if event.type != "progress"]


def let_lease_expire(database: Database, job_id: str) -> None:
    with database.write() as session:
        past = database_now(session) - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=past))


def expire(database: Database, *, max_attempts: int = 3) -> list[str]:
    with database.write() as session:
        ended = lifecycle.expire_leases(session, max_attempts=max_attempts, lease_seconds=30)
        return [job.status for job in ended]


def publish(
    database: Database, claim: Claim, model: NewModel | None = None, *, evaluate: bool = False
) -> bool:
    """Publish a model. Without `evaluate` the job has ended."""
    metrics = {"verdict": "evaluating" if evaluate else "better"}
    model = model or new_model()
    with database.write() as session:
        deletions.announce(session, models.blobs_of(model.id))
        named = replace(claim, name=model.name)
        return lifecycle.publish(session, named, model.id, model.manifest, metrics, evaluate=evaluate)


def store_report(
    database: Database, blobs: Blobs, job_id: str, report: dict[str, Any], metrics: dict[str, Any]
) -> None:
    """Store the report of an ended job, and the metrics of the job and of its model."""
    key = jobs.report_of(job_id, "1")
    blobs.put(key, json.dumps(report).encode())
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(report_key=key, metrics=metrics))
        session.execute(update(Model).where(Model.job_id == job_id).values(metrics=metrics))


def new_owner(database: Database, name: str) -> str:
    with database.write() as session:
        owners.ensure(session, name)
    return name


def stored_job(database: Database, blobs: Blobs, **given: Any) -> str:
    """Create a job with two stored images."""
    job_id = new_id("job")
    images = []
    for number, content in enumerate(CONTENT):
        key = f"jobs/{job_id}/{number}"
        blobs.put(key, content)
        images.append(
            Image(
                key,
                "red fox",
                file_name=f"{number}.jpg",
                sha256=sha256(content),
                bytes=len(content),
            )
        )
    return new_job(database, id=job_id, images=images, **given)


def stored_model(database: Database, blobs: Blobs, **given: Any) -> str:
    """Publish a model of a new job, with its files."""
    model_id = new_id("mdl")
    weights = f"weights of {model_id}".encode()
    blobs.put(f"models/{model_id}/{WEIGHTS}", weights)
    blobs.put(f"models/{model_id}/{MANIFEST}", b"{}")
    model = new_model(
        id=model_id,
        sha256=sha256(weights),
        bytes=len(weights),
        **given,
    )
    assert publish(database, claimed(database, stored_job(database, blobs)), model)
    return model_id


def delete_job(database: Database, job_id: str) -> None:
    """Delete a queued job. Its files are left."""
    with database.write() as session:
        lifecycle.request_cancel(session, job_id, owner="default")
        lifecycle.delete(session, job_id, owner="default")


def bucket(endpoint: str, name: str, prefix: str = "a/prefix") -> Blobs:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in bucket_access(endpoint).items():
            patch.setenv(variable, value)
        return Blobs(f"s3://{name}/{prefix}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def keys(blobs: Blobs, prefix: str = "") -> list[str]:
    return sorted(blob.key for blob in blobs.list(prefix))


def published(database: Database, name: str | None = None, *, owner: str = OWNER, **given: Any) -> str:
    model = new_model(name=name, **given)
    assert publish(database, claimed(database, new_job(database, owner=owner)), model)
    return model.id


def resolved(database: Database, reference: str, *, owner: str = OWNER) -> Model:
    with database.read() as session:
        return models.resolve(session, reference, owner=owner)
