"""A request sent twice makes one job."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from core.settings import Settings
from core.store import submission
from core.store.accounts import idempotency
from core.store.accounts.idempotency import IdempotencyClaim, IdempotencyKeyReused, IdempotentJobGone
from core.store.accounts.quotas import QueueQuota
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import IdempotencyKey
from core.store.errors import DatabaseUnavailable
from core.store.jobs import jobs
from tests.core.store.samples import OWNER, job_of, new_owner
from tests.core.store.test_races import at_once

ONCE = IdempotencyClaim("k", "a" * 64)


def admit(
    database: Database,
    once: IdempotencyClaim | None = ONCE,
    *,
    owner: str = OWNER,
    settings: Settings | None = None,
) -> str:
    """The id of the job that the request is answered with."""
    with database.write() as session:
        job = submission.submit_job(
            session,
            settings or Settings(),
            once,
            job_id=new_id("job"),
            owner=owner,
            name=None,
            config={"backbone": "starter"},
            classes=[],
            warnings=[],
            images=[],
        )
    return job.id


def test_the_same_again_is_the_same_job(database: Database) -> None:
    first = admit(database)
    assert admit(database) == first
    with pytest.raises(IdempotencyKeyReused, match="Use a new key"):
        admit(database, IdempotencyClaim("k", "b" * 64))
    assert (
        len(
            {
                first,
                admit(database, IdempotencyClaim("l", "a" * 64)),
                admit(database, None),
                admit(database, None),
            }
        )
        == 4
    )
    theirs = admit(database, owner=new_owner(database, "other"))
    assert theirs != first
    assert job_of(database, theirs, owner="other").owner == "other"


def test_many_at_once_make_one_job(database: Database) -> None:
    def send() -> str:
        while True:
            try:
                return admit(database)
            except DatabaseUnavailable:  # a slow machine; so a client would be told, and send it again
                continue

    assert len(set(at_once(*[send] * 8))) == 1
    with database.read() as session:
        assert len(jobs.list_page(session, owner=OWNER, limit=9)[0]) == 1


def test_it_is_forgotten_after_a_day(database: Database) -> None:
    first = admit(database)

    def age(hours: float) -> None:
        with database.write() as session:
            then = database_now(session) - timedelta(hours=hours)
            session.execute(update(IdempotencyKey).values(created_at=then))
            idempotency.forget_old(session)

    age(23.9)
    assert admit(database) == first
    with database.write() as session:
        session.execute(
            update(IdempotencyKey).values(created_at=database_now(session) - timedelta(hours=24.1))
        )
    second = admit(database, IdempotencyClaim("k", "b" * 64))  # not yet swept, and new all the same
    assert second != first
    assert admit(database, IdempotencyClaim("k", "b" * 64)) == second
    age(24.1)
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey)).all() == []


def test_a_deleted_job_does_not_come_back(database: Database) -> None:
    first = admit(database)
    with database.write() as session:
        jobs.delete(session, first, owner=OWNER)
    with pytest.raises(IdempotentJobGone, match=first):
        admit(database)


def test_what_was_refused_may_be_sent_again(database: Database) -> None:
    """Nothing is remembered of it, and a retry is not held up by the job that it made itself."""
    full = Settings(max_queued_jobs=1)
    blocking = admit(database, None)
    with pytest.raises(QueueQuota):
        admit(database, settings=full)
    with database.write() as session:
        jobs.delete(session, blocking, owner=OWNER)
    first = admit(database, settings=full)
    assert admit(database, settings=full) == first
    with database.read() as session:
        submission.precheck_quotas(session, OWNER, "k", full)
        with pytest.raises(QueueQuota):
            submission.precheck_quotas(session, OWNER, "l", full)
