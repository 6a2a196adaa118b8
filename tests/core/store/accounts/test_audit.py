"""Entries of the audit log: transactional, and found by each filter."""

from typing import Any

import pytest

from core.store.accounts import audit
from core.store.accounts.audit import Actor
from core.store.db.session import Database


def add(database: Database, action: str, object: str, **given: Any) -> None:
    with database.write() as session:
        audit.record(session, action, object, **given)


def found(database: Database, **given: Any) -> list[str]:
    with database.read() as session:
        return [row.object for row in audit.list_newest(session, **{"limit": 10, **given})]


def test_filters(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add(database, "key.create", "key_1", owner="team-a")
    monkeypatch.setattr(audit, "actor", lambda: Actor("team-b", "key_1", "req_1", "203.0.113.5"))
    add(database, "job.create", "job_1")
    add(database, "job.delete", "job_1")
    add(database, "jobs.other", "x", owner="team-c")
    assert found(database) == ["key_1", "job_1", "job_1", "x"]
    assert found(database, limit=2) == ["job_1", "x"]
    assert found(database, owner="team-a") == ["key_1"]
    assert found(database, object="key_1") == ["key_1"]
    assert found(database, object="job_1", owner="team-b") == ["job_1", "job_1"]


def test_a_command_is_of_this_machine(database: Database) -> None:
    add(database, "key.create", "key_1")
    with database.read() as session:
        [row] = audit.list_newest(session, limit=1)
    assert row.key_id.startswith("local:")
    assert (row.address, row.request_id) == (None, None)
