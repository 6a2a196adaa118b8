"""Idempotency keys: a request sent twice creates one job."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from api.quotas import ByteQuota
from core.settings import Settings
from core.store.accounts import idempotency
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.db.session import Database, database_now
from core.store.db.tables import IdempotencyKey
from core.store.jobs import lifecycle
from tests.core.store.samples import OWNER, submit

ONCE = IdempotencyClaim("k", "a" * 64)


def test_keys_expire_after_a_day(database: Database) -> None:
    first = submit(database, once=ONCE)

    def age(hours: float) -> None:
        with database.write() as session:
            then = database_now(session) - timedelta(hours=hours)
            session.execute(update(IdempotencyKey).values(created_at=then))
            idempotency.forget_old(session)

    age(23.9)
    assert submit(database, once=ONCE) == first
    with database.write() as session:
        session.execute(
            update(IdempotencyKey).values(created_at=database_now(session) - timedelta(hours=24.1))
        )
    second = submit(database, once=IdempotencyClaim("k", "b" * 64))  # Not yet swept, but expired.
    assert second != first
    assert submit(database, once=IdempotencyClaim("k", "b" * 64)) == second
    age(24.1)
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey)).all() == []


def test_a_refused_request_may_be_retried(database: Database) -> None:
    """Nothing is remembered of a refused request, and its retry is not blocked by its own job."""
    full = Settings(max_stored_bytes=15)
    blocking = submit(database, image_bytes=10)
    with pytest.raises(ByteQuota):
        submit(database, full, ONCE, image_bytes=10)
    with database.write() as session:
        lifecycle.delete(session, blocking, owner=OWNER)
    first = submit(database, full, ONCE, image_bytes=10)
    assert submit(database, full, ONCE, image_bytes=10) == first
