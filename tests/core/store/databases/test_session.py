"""Guarantees of the unit of work."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from core.store.db import client_timeout, engine
from core.store.db.session import Database, database_now
from core.store.db.tables import Job
from core.store.errors import DatabaseUnavailable
from tests.conftest import USUAL_LIMITS
from tests.core.store.samples import job_of, new_job, types_of
from tests.servers import postgres_server


def setting(database: Database, name: str) -> str:
    with database.read() as session:
        pragma = session.get_bind().dialect.name == "sqlite"
        return str(session.scalar(text(f"PRAGMA {name}" if pragma else f"SHOW {name}")))


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the limits of the product."""
    limits = dict(USUAL_LIMITS)
    monkeypatch.setattr(engine, "BUSY_MILLISECONDS", limits.pop("busy"))
    monkeypatch.setattr(engine, "LIMITS", limits)


def test_the_settings_are_in_force(usual: None, database: Database) -> None:
    wanted = {
        "sqlite": {"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000", "foreign_keys": "1"},
        "postgresql": {
            "statement_timeout": "5s",
            "lock_timeout": "2s",
            "idle_in_transaction_session_timeout": "10s",
        },
    }[database.engine.dialect.name]
    assert {name: setting(database, name) for name in wanted} == wanted


def test_the_clock_is_in_utc_and_right(database: Database) -> None:
    with database.read() as session:
        now = database_now(session)
    assert now.tzinfo is UTC
    assert abs((now - datetime.now(UTC)).total_seconds()) < 5


def test_a_time_without_zone_is_refused(database: Database) -> None:
    job_id = new_job(database)
    with database.write() as session, pytest.raises(Exception, match="has no time zone"):
        session.execute(update(Job).where(Job.id == job_id).values(started_at=datetime(2026, 1, 1)))


def test_a_read_or_a_failed_write_stores_nothing(database: Database) -> None:
    job_id = new_job(database)
    with database.read() as session:
        session.execute(update(Job).where(Job.id == job_id).values(name="no"))

    def break_a_rule() -> None:
        with database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(name="no"))
            session.execute(update(Job).where(Job.id == job_id).values(status="lost"))

    with pytest.raises(IntegrityError):
        break_a_rule()
    assert job_of(database, job_id).name is None
    assert types_of(database, job_id) == ["queued"]


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    job_id = new_job(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(name="new"))
        assert job_of(database, job_id).name is None
    assert job_of(database, job_id).name == "new"


def test_a_writer_that_waits_too_long_fails(usual: None, on_postgres: Database) -> None:
    job_id = new_job(on_postgres)
    with on_postgres.write() as first:
        first.execute(update(Job).where(Job.id == job_id).values(name="a"))
        assert first.scalar(text("SHOW lock_timeout")) == "2s"
        with pytest.raises(DatabaseUnavailable, match="lock timeout"), on_postgres.write() as second:
            second.execute(update(Job).where(Job.id == job_id).values(name="b"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:secret@127.0.0.1:1/none",
        "sqlite:////proc/nowhere/clipcite.db",
        "mysql://user:secret@host/db",
        "not a url with secret",
    ],
)
def test_an_unreachable_database_is_named_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        Database(url).check()
    assert (refused.value.status, refused.value.code) == (503, "database_unavailable")
    assert "CLIPCITE_DATABASE_URL" in refused.value.detail
    assert "secret" not in refused.value.detail


def test_a_server_that_is_read_only_for_a_while_is_unavailable(
    pair_on_postgres: tuple[Database, Database],
) -> None:
    """After a failover, or because of a full disk. A connection of that time stays read-only."""
    database, operator = pair_on_postgres
    setting = f'ALTER DATABASE "{operator.engine.url.database}" SET default_transaction_read_only ='
    with operator.write() as session:
        session.execute(text(f"{setting} on"))
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        new_job(database)
    with operator.write() as session:
        session.execute(text(f"{setting} off"))
    assert job_of(database, new_job(database)).status == "queued"


def test_an_idle_session_that_the_server_has_ended_is_unavailable(
    pair_on_postgres: tuple[Database, Database],
) -> None:
    database, other = pair_on_postgres

    def idle() -> None:
        with database.write() as session:
            session.execute(text("SET idle_in_transaction_session_timeout = 50"))
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            ended = text("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")
            over = False
            while not over:  # A transaction sees one state of pg_stat_activity.
                with other.read() as watcher:
                    over = watcher.scalar(ended, {"pid": pid})
                time.sleep(0.02)

    with pytest.raises(DatabaseUnavailable, match="idle-in-transaction timeout"):
        idle()
    assert job_of(database, new_job(database)).status == "queued"


def test_after_a_restart_of_the_server_the_next_call_works(
    pair_on_postgres: tuple[Database, Database],
) -> None:
    """All connections are cut, as by a restart. The pool must not hand out a dead one.

    Each cut waits until the server's processes have ended: one that is still ending answers the pool's ping.
    """
    database, other = pair_on_postgres
    cut = text(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    job_id = new_job(database)
    with other.write() as session:
        session.execute(cut)
    assert job_of(database, job_id).status == "queued"

    def be_cut_in_the_middle() -> None:
        with database.write() as session:
            session.execute(update(Job).values(name="half"))
            with other.write() as killer:
                killer.execute(cut)

    with pytest.raises(DatabaseUnavailable):
        be_cut_in_the_middle()
    assert job_of(database, job_id).name is None


@contextmanager
def frozen(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.fixture
def on_own_server() -> Iterator[Database]:
    """Return an empty database on a server that a test may freeze."""
    with postgres_server() as server:
        database = Database(server.url)
        yield database
        database.close()


def test_a_hanging_server_is_detected_soon(on_own_server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """`statement_timeout` does not help, because the hanging server would enforce it."""
    monkeypatch.setattr(client_timeout, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(client_timeout, "PING_SECONDS", 0.5)
    backend = text("SELECT pg_backend_pid()")

    def be_frozen_in_the_middle() -> None:
        with on_own_server.write() as session, frozen(session.scalars(backend).one()):
            session.execute(text("SELECT 1"))

    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="no answer within 1 s"):
        be_frozen_in_the_middle()
    assert time.monotonic() - begun >= 1
    with on_own_server.read() as session:
        pooled = session.scalars(backend).one()
    with frozen(pooled), on_own_server.read() as session:  # The pool opens another connection.
        assert session.scalars(backend).one() != pooled


def test_a_long_answer_is_waited_for(on_postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout limits silence, not the whole duration of the answer."""
    monkeypatch.setattr(client_timeout, "ANSWER_SECONDS", 1.0)
    with on_postgres.read() as session:
        rows = session.execute(
            text("SELECT repeat('x', 100000), pg_sleep(0.01) FROM generate_series(1, 150)")
        )
        assert len(rows.all()) == 150
