"""Whether a job or a model may be made: within its owner's quotas, and not yet made by the same request."""

from typing import Any

from sqlalchemy.orm import Session

from core.settings import Settings
from core.store.accounts import idempotency, owners, quotas
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.db.session import database_now
from core.store.db.tables import Job, Model
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.models import NewModel
from core.store.webhooks import deliveries


def precheck_quotas(session: Session, owner: str, idempotency_key: str | None, settings: Settings) -> None:
    """Before anything is done with the images. Not the last word: that is `submit_job`'s.

    A request that may be a retry gets through, since its job may be what fills the quota. Raises as
    `owners.check_quotas`.
    """
    if idempotency_key is None or not idempotency.is_known(session, owner, idempotency_key):
        quotas.check_quotas(session, owner, settings, more_bytes=0)


def submit_job(
    session: Session, settings: Settings, once: IdempotencyClaim | None, *, owner: str, **job: Any
) -> Job:
    """Make the job, as `jobs.create` does; or the one that the same request has made meanwhile.

    The owner is locked: no two requests find room, or no job of their key, at the same time.

    Raises:
        QueueQuota, ModelQuota, ByteQuota.
        IdempotencyKeyReused, IdempotentJobGone.
    """
    owners.lock(session, owner)
    if once is not None:
        known = idempotency.find(session, owner, once)
        if known is not None:
            return known
        idempotency.remember(session, owner, once, job["job_id"])
    reserved = quotas.expected_model_bytes(
        session, job["config"]["backbone"], job["config"].get("delta_format", "full")
    )
    images = sum(image.bytes for image in job["images"])
    quotas.check_quotas(session, owner, settings, more_bytes=images + reserved)
    if job.get("webhook") is not None:
        deliveries.secret(session, owner)  # there must be one to sign with when the job has ended
    return jobs.create(session, owner=owner, reserved_bytes=reserved, **job)


def admit_model(session: Session, settings: Settings, model: NewModel, *, owner: str) -> Model:
    """Add a model that no job has made.

    The owner is locked: no two requests find room at the same time.

    Raises ModelQuota, ByteQuota.
    """
    owners.lock(session, owner)
    quotas.check_room(session, owner, settings, more_bytes=model.bytes)
    return models.add_model(session, model, owner=owner, job_id=None, metrics=None, at=database_now(session))
