"""One round of the dispatcher, on real databases and a real broker."""

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import celery
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from core.settings import Settings
from core.store.db.session import Database, database_now
from core.store.db.tables import Job
from core.store.jobs import fair_queue, lifecycle
from core.store.jobs.queue import make_celery, waiting
from tests.core.store.samples import new_job, new_owner
from tests.service.running import wait_for
from worker.dispatcher.__main__ import MAX_AHEAD, dispatch, run


@pytest.fixture
def settings(tmp_path: Path, empty_redis_url: str) -> Settings:
    return Settings(data=tmp_path / "data", redis_url=SecretStr(empty_redis_url), lease_seconds=0.05)


@pytest.fixture
def app(settings: Settings) -> celery.Celery:
    return make_celery(settings)


def test_messages_do_not_pile_up_while_nobody_takes_them(
    database: Database, settings: Settings, app: celery.Celery
) -> None:
    ids = [new_job(database) for _ in range(6)]
    assert dispatch(settings, database, app) == ids[:MAX_AHEAD]
    for _ in range(5):
        time.sleep(0.06)  # The jobs are due again.
        assert dispatch(settings, database, app) == []
    assert waiting(app) == MAX_AHEAD


def test_what_was_taken_and_never_sent_is_due_again(
    database: Database, settings: Settings, app: celery.Celery
) -> None:
    """The dispatcher died between its commit and the sending."""
    patient = settings.model_copy(update={"lease_seconds": 600})
    job_id = new_job(database)
    with database.write() as session:
        assert fair_queue.take_due(session, redispatch_seconds=600, ahead=4) == [job_id]
    assert dispatch(patient, database, app) == []
    with database.write() as session:  # Ten minutes later.
        session.execute(update(Job).values(dispatched_at=database_now(session) - timedelta(minutes=10)))
    assert dispatch(patient, database, app) == [job_id]
    assert waiting(app) == 1


def test_a_dead_workers_job_is_queued_again_but_not_after_a_sleep(
    database: Database, settings: Settings, app: celery.Celery
) -> None:
    job_id = new_job(database)
    with database.write() as session:
        assert lifecycle.claim(session, job_id, worker="w", lease_seconds=0.01)
    time.sleep(0.05)
    assert dispatch(settings, database, app, after_sleep=True) == []
    assert dispatch(settings, database, app) == [job_id]


def test_a_restart_sends_again_what_a_restarted_broker_has_lost(
    database: Database, settings: Settings, app: celery.Celery
) -> None:
    patient = settings.model_copy(update={"lease_seconds": 600})
    for _ in range(MAX_AHEAD):
        new_job(database)
    with database.write() as session:
        assert len(fair_queue.take_due(session, redispatch_seconds=600, ahead=MAX_AHEAD)) == MAX_AHEAD
    own, stop = Database(database.engine.url.render_as_string(hide_password=False)), threading.Event()
    rounds = threading.Thread(target=run, args=(patient, own, stop))
    rounds.start()
    try:
        wait_for(lambda: waiting(app) == MAX_AHEAD)
    finally:
        stop.set()
        rounds.join()


def test_a_worker_without_its_dispatcher_ends(tmp_path: Path) -> None:
    """`clipcite serve` restarts it. The storage can't be opened here."""
    code = (
        "import sys, threading; from core.settings import Settings; "
        "from worker.dispatcher.__main__ import beside_the_worker\n"
        "with beside_the_worker(Settings(blob_url='ftp://nowhere')): threading.Event().wait(600)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "The dispatcher can't run" in ended.stderr


def test_jobs_sent_per_owner_are_limited(database: Database, settings: Settings, app: celery.Celery) -> None:
    settings = settings.model_copy(update={"max_running_jobs": 1, "lease_seconds": 60})
    mine = [new_job(database) for _ in range(3)]
    theirs = new_job(database, owner=new_owner(database, "other"))
    assert dispatch(settings, database, app) == [mine[0], theirs]
    assert dispatch(settings, database, app) == []


def test_celerys_own_variable_does_not_beat_our_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    app = make_celery(settings)
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert "elsewhere" not in str(connection.hostname)
    assert os.environ["CELERY_BROKER_URL"] == "redis://elsewhere"
