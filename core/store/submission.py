"""Creation of jobs and models, within the owner's quota and at most once per idempotency key."""

from typing import Any

from sqlalchemy.orm import Session

from core.settings import Settings
from core.store.accounts import audit, idempotency, owners, quotas
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.db.session import database_now
from core.store.db.tables import Job, Model
from core.store.jobs import lifecycle
from core.store.registry import models
from core.store.registry.models import NewModel


def submit_job(
    session: Session, settings: Settings, claim: IdempotencyClaim | None, *, owner: str, **job: Any
) -> Job:
    """Create a job with the arguments of `lifecycle.create`, or return the job of an identical request.

    The owner is locked, so concurrent requests can't exceed a quota or create two jobs for one key.

    Raises:
        ByteQuota: the quota is exceeded.
        IdempotencyKeyReused, IdempotentJobGone: the idempotency key can't be used.
    """
    owners.lock(session, owner)
    if claim is not None:
        earlier = idempotency.find(session, owner, claim)
        if earlier is not None:
            return earlier
        idempotency.remember(session, owner, claim, job["job_id"])
    reserved = quotas.expected_model_bytes(
        session, job["config"]["backbone"], job["config"].get("delta_format", "full")
    )
    images = sum(image.bytes for image in job["images"])
    quotas.check_quota(session, owner, settings, more_bytes=images + reserved)
    created = lifecycle.create(session, owner=owner, reserved_bytes=reserved, **job)
    audit.record("job.create", created.id)
    return created


def admit_model(session: Session, settings: Settings, model: NewModel, *, owner: str) -> Model:
    """Add an imported model.

    The owner is locked, so concurrent requests can't exceed a quota.

    Raises:
        ByteQuota: the quota is exceeded.
    """
    owners.lock(session, owner)
    quotas.check_quota(session, owner, settings, more_bytes=model.bytes)
    row = models.add_model(
        session,
        model,
        owner=owner,
        job_id=None,
        metrics=None,
        at=database_now(session),
        created_by=audit.actor().key_id,
    )
    audit.record("model.import", row.id)
    return row
