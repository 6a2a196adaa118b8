"""Adoption of jobs and models by another owner."""

from typing import Any

import pytest
from sqlalchemy import select

from core.store import adoption
from core.store.accounts import api_keys, owners
from core.store.adoption import Adopted, AdoptionRefused
from core.store.db.session import Database
from core.store.db.tables import AliasMove, Job, Model
from core.store.jobs import jobs
from core.store.registry import aliases, models
from core.store.webhooks import deliveries
from tests.core.store.samples import claimed, new_job, new_model, publish


def published(database: Database, owner: str, name: str) -> str:
    with database.write() as session:
        owners.ensure(session, owner)
    model = new_model(name=name)
    assert publish(database, claimed(database, new_job(database, owner=owner)), model)
    return model.id


def key_of(database: Database, owner: str) -> None:
    with database.write() as session:
        api_keys.create(session, owner=owner)


def adopt(database: Database, source: str = "default", target: str | None = None) -> Adopted:
    with database.write() as session:
        return adoption.adopt(session, source, target)


def rows(database: Database) -> Any:
    with database.read() as session:
        return [sorted(session.execute(select(t.owner, t.id))) for t in (Job, Model)]


def test_models_aliases_and_jobs_get_the_new_owner(database: Database) -> None:
    first, second = published(database, "default", "shoes"), published(database, "default", "shoes")
    waiting = new_job(database, owner="default")
    with database.write() as session:
        aliases.promote(session, "shoes", "prod", first, owner="default")
        aliases.promote(session, "shoes", "prod", second, owner="default")
    key_of(database, "team-a")
    theirs = published(database, "team-a", "hats")
    assert adopt(database) == Adopted("default", "team-a", jobs=3, models=2, aliases=1)
    with database.write() as session:
        assert models.resolve(session, "shoes@prod", owner="team-a").id == second
        assert aliases.rollback(session, "shoes", "prod", owner="team-a").model.id == first
        assert len(session.scalars(select(AliasMove)).all()) == 3
        assert models.resolve(session, "hats", owner="team-a").id == theirs
        assert jobs.get(session, waiting, owner="team-a").status == "queued"
    assert {owner for table in rows(database) for owner, _ in table} == {"team-a"}
    third = published(database, "team-a", "shoes")
    with database.read() as session:
        assert models.resolve(session, "shoes@3", owner="team-a").id == third


def test_what_is_refused_changes_nothing(database: Database) -> None:
    published(database, "default", "shoes")
    published(database, "team-a", "shoes")
    before = rows(database)
    for source, target, says in (
        ("default", "team-a", "Both owners have models named 'shoes'. Rename"),
        ("default", "nobody", "There is no owner 'nobody'"),
        ("default", "default", "is the owner already"),
        ("default", None, "There are 0 other owners with keys"),
    ):
        with pytest.raises(AdoptionRefused, match=says):
            adopt(database, source, target)
    key_of(database, "team-a")
    key_of(database, "team-b")
    with pytest.raises(AdoptionRefused, match="2 other owners"):
        adopt(database)
    assert rows(database) == before


def test_a_name_that_the_new_owner_had_before(database: Database) -> None:
    """Version numbers are not reused after the adoption either."""
    old = [published(database, "team-a", "shoes") for _ in range(3)]
    with database.write() as session:
        for model_id in old:
            models.delete(session, model_id, owner="team-a")
    published(database, "default", "shoes")
    adopt(database, target="team-a")
    fourth = published(database, "team-a", "shoes")
    with database.read() as session:
        assert models.resolve(session, "shoes@4", owner="team-a").id == fourth


def test_a_webhook_after_the_adoption_is_signed(database: Database) -> None:
    """The new owner had no secret before."""
    waiting = new_job(database, owner="default", webhook="https://example.com/")
    key_of(database, "team-a")
    adopt(database)
    with database.write() as session:
        jobs.request_cancel(session, waiting, owner="team-a")
    with database.write() as session:
        (delivery,) = deliveries.take_due(session, limit=9)
    assert delivery.owner == "team-a"
    assert len(delivery.secrets) == 1
