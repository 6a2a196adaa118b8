"""Owners: isolation, quotas and fair shares."""

import re
from collections import Counter
from typing import Any

import pytest
from sqlalchemy.orm import Session

from api import quotas
from api.quotas import ByteQuota
from core.settings import Settings
from core.store.accounts import owners
from core.store.accounts.owners import InvalidOwner
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.jobs import fair_queue, lifecycle
from core.store.registry import models
from tests.core.store.races import at_once
from tests.core.store.samples import (
    OWNER,
    claimed,
    create_job,
    job_of,
    new_job,
    new_model,
    new_owner,
    publish,
    submit,
)


def published(database: Database, **given: Any) -> str:
    model = new_model(**{"bytes": 100, **given})
    assert publish(database, claimed(database, new_job(database, images=[])), model)
    return model.id


# --- isolation ---


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 65, "ä", "a/b", "a\n"])
def test_invalid_owner_names(database: Database, name: str) -> None:
    with database.write() as session, pytest.raises(InvalidOwner, match="a-z"):
        owners.ensure(session, name)


# --- quotas ---


def test_stored_bytes(database: Database) -> None:
    settings = Settings(max_stored_bytes=1_000)
    with pytest.raises(ByteQuota):
        submit(database, settings, image_bytes=1_001)
    model = published(database, bytes=200)
    job = submit(database, settings, image_bytes=300)  # and 200 for the model that it will make
    with pytest.raises(
        ByteQuota, match=re.escape("take 700 bytes and this request needs 301 more. The maximum is 1,000")
    ):
        submit(database, settings, image_bytes=101)
    submit(database, settings, image_bytes=100)
    with database.read() as session:
        assert quotas.stored_bytes(session, OWNER) == 1_000
    with database.write() as session:
        lifecycle.request_cancel(session, job, owner=OWNER)  # The job creates no model any more.
        assert quotas.stored_bytes(session, OWNER) == 800
        lifecycle.delete(session, job, owner=OWNER)
        models.delete(session, model, owner=OWNER)
        assert quotas.stored_bytes(session, OWNER) == 300


@pytest.mark.parametrize("evaluate", [False, True])
def test_a_published_model_uses_its_reserved_bytes(database: Database, evaluate: bool) -> None:
    published(database, bytes=200)
    claim = claimed(database, submit(database, Settings(), image_bytes=10))
    with database.read() as session:
        assert quotas.stored_bytes(session, OWNER) == 410
    publish(database, claim, new_model(bytes=150), evaluate=evaluate)
    with database.read() as session:
        assert quotas.stored_bytes(session, OWNER) == 360


def test_many_at_once_never_exceed_the_quota(database: Database) -> None:
    settings = Settings(max_stored_bytes=15)

    def attempt() -> bool:
        while True:
            try:
                submit(database, settings, image_bytes=3)
            except ByteQuota:
                return False
            except DatabaseUnavailable:  # On a slow machine the lock may time out; a client would get 503.
                continue
            return True

    assert sum(at_once(*[attempt] * 8)) == 5


# --- the order of dispatch ---


def several(database: Database, owner: str, count: int) -> list[str]:
    with database.write() as session:
        return [create_job(session, owner=owner, images=[]).id for _ in range(count)]


def take(database: Database, ahead: int, **given: Any) -> list[str]:
    with database.write() as session:
        return fair_queue.take_due(session, redispatch_seconds=60, ahead=ahead, **given)


def test_jobs_started_per_owner_are_limited(database: Database) -> None:
    """The limit holds for any messages, for example from two dispatchers or late."""

    def start(job_id: str) -> bool:
        with database.write() as session:
            return lifecycle.claim(session, job_id, worker="w", lease_seconds=30, max_running=3) is not None

    ids = several(database, OWNER, 8)
    assert sum(at_once(*[lambda job_id=job_id: start(job_id) for job_id in ids])) == 3
    assert Counter(job_of(database, job_id).status for job_id in ids) == {"running": 3, "queued": 5}
    assert take(database, 9, max_running=3) == []
    theirs = several(database, new_owner(database, "other"), 1)
    assert start(theirs[0])


def test_a_job_that_had_to_wait_is_sent_as_soon_as_another_ends(database: Database) -> None:
    first, second = several(database, OWNER, 2)
    assert take(database, 2) == [first, second]
    claim = claimed(database, first)
    with database.write() as session:
        assert lifecycle.claim(session, second, worker="w", lease_seconds=30, max_running=1) is None
    assert take(database, 2, max_running=1) == []
    publish(database, claim)
    assert take(database, 2, max_running=1) == [second]


def test_locking_an_owner_blocks_no_foreign_key(database: Database) -> None:
    """Otherwise a publication and a claim could deadlock, each holding the lock that the other needs."""
    claim = claimed(database, new_job(database))

    def hold(session: Session) -> bool:
        owners.lock(session, OWNER)
        return (
            publish(database, claim, evaluate=True) if database.engine.dialect.name == "postgresql" else True
        )

    with database.write() as session:
        assert hold(session)
