"""API keys: shown once, and stored and looked up as a hash."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from core.store.accounts import api_keys
from core.store.accounts.api_keys import KeyNotFound, KeyRefused
from core.store.db.session import Database, database_now
from core.store.db.tables import ApiKey


def make(database: Database, **given: Any) -> api_keys.NewKey:
    with database.write() as session:
        return api_keys.create(session, **{"owner": "team-a", **given})


def opened(database: Database, key: str) -> str | None:
    with database.read() as session:
        row = api_keys.find(session, key)
        return None if row is None else row.owner


def test_a_key_opens_for_its_owner_and_is_stored_nowhere(database: Database) -> None:
    made, other = make(database, name="laptop"), make(database, owner="team-b", scopes=["admin", "classify"])
    assert len({made.key, other.key}) == 2
    assert api_keys.is_formed(made.key)
    assert len(made.key) == 46
    assert (opened(database, made.key), opened(database, other.key)) == ("team-a", "team-b")
    assert (made.row.scopes, other.row.scopes) == (["classify", "adapt"], ["classify", "admin"])
    assert made.row.sha256 == hashlib.sha256(made.key.encode()).hexdigest()
    with database.read() as session:
        dump = str([tuple(row) for row in session.execute(text("SELECT * FROM api_keys"))])
    assert made.key[:11] in dump
    assert made.key[11:] not in dump
    assert made.key not in repr(made.row)


def test_invalid_keys(database: Database) -> None:
    made = make(database)
    for given in (made.key[:-1], f"{made.key}x", made.key.swapcase(), made.row.sha256, made.row.id, ""):
        assert opened(database, given) is None
    for given in ("", "cc_", "cc_x", made.key[3:], f"{made.key} ", f"{made.key}\n", "cc_" + "ä" * 43):
        assert not api_keys.is_formed(given)


def test_expiry(database: Database) -> None:
    made = make(database, lifetime=timedelta(days=1))
    assert opened(database, made.key) == "team-a"
    with database.write() as session:
        session.execute(update(ApiKey).values(expires_at=database_now(session) - timedelta(seconds=1)))
    with pytest.raises(KeyRefused, match=r"expired on .* Ask the operator") as refused:
        opened(database, made.key)
    assert (refused.value.code, refused.value.status) == ("key_expired", 401)


def test_revoking(database: Database) -> None:
    made, kept, third = make(database), make(database), make(database)
    for _ in range(2):
        with database.write() as session:
            at = api_keys.revoke(session, made.row.id).revoked_at
    with database.read() as session:
        assert api_keys.list_all(session)[0].revoked_at == at  # The second call changed nothing.
        assert [row.id for row in api_keys.list_all(session, "team-a")] == [
            made.row.id,
            kept.row.id,
            third.row.id,
        ]
        assert api_keys.list_all(session, "team-b") == []
    with pytest.raises(KeyRefused, match=r"revoked on .* Ask the operator") as refused:
        opened(database, made.key)
    assert (refused.value.code, refused.value.status) == ("key_revoked", 401)
    assert opened(database, kept.key) == "team-a"
    with database.write() as session:
        api_keys.revoke(session, third.row.prefix)
    with pytest.raises(KeyRefused):
        opened(database, third.key)
    for unknown in ("key_none", "", "cc_", "\0", "%"):
        with database.write() as session, pytest.raises(KeyNotFound, match="clipcite keys list"):
            api_keys.revoke(session, unknown)


def test_the_existence_of_keys(database: Database) -> None:
    def there() -> tuple[bool, bool]:
        with database.read() as session:
            return api_keys.any_made(session), api_keys.any_good(session)

    assert there() == (False, False)
    made = make(database)
    assert there() == (True, True)
    with database.write() as session:
        api_keys.revoke(session, made.row.id)
    assert there() == (True, False)
    make(database, lifetime=timedelta(days=1))
    assert there() == (True, True)
    with database.write() as session:
        session.execute(update(ApiKey).values(expires_at=database_now(session)))
    assert there() == (True, False)


def test_the_last_use_is_recorded_once_per_minute(database: Database) -> None:
    made = make(database)

    def used() -> Any:
        with database.write() as session:
            api_keys.record_use(session, made.row.id)
        with database.read() as session:
            row = api_keys.list_all(session)[0]
            assert not api_keys.is_stale(row)
            return row.last_used_at

    with database.read() as session:
        assert api_keys.is_stale(api_keys.list_all(session)[0])
    first = used()
    assert used() == first
    with database.write() as session:
        session.execute(update(ApiKey).values(last_used_at=first - timedelta(seconds=61)))
        assert api_keys.is_stale(session.scalars(select(ApiKey)).one())
    assert used() > first
