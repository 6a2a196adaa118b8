"""A starved worker: messages wait, and it receives none."""

import os
import subprocess
import sys
import time
from pathlib import Path

import celery
import pytest
import redis

from core.settings import Settings
from core.store.db import migrate
from core.store.jobs.queue import QUEUE, make_celery, send_adapt
from tests.service.running import wait_for
from worker import watchdog
from worker.watchdog import Watchdog

IMPATIENT = (
    "from worker import watchdog; watchdog.STARVED_SECONDS, watchdog.LOOK_SECONDS = 1, 0.2; "
    "from worker.__main__ import main; main()"
)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> celery.Celery:
    monkeypatch.setattr(watchdog, "STARVED_SECONDS", 0.1)
    return make_celery(Settings(data=tmp_path))


def test_a_busy_worker_is_not_starved_and_has_time_afterwards(app: celery.Celery) -> None:
    dog = Watchdog(app)
    send_adapt(app, "job_1")
    assert not dog.is_starved()
    with dog.message():
        time.sleep(0.15)
        assert not dog.is_starved()
    assert not dog.is_starved()


def test_an_empty_queue_and_a_missing_broker_starve_no_worker(app: celery.Celery) -> None:
    for dog in (
        Watchdog(app),
        Watchdog(make_celery(Settings(redis_url="redis://127.0.0.1:1/0"))),  # type: ignore[arg-type]
    ):
        dog.is_starved()
        time.sleep(0.15)
        assert not dog.is_starved()


def test_a_starved_worker_exits(redis_url: str, tmp_path: Path) -> None:
    """The worker is starved for real: its consumer is cancelled."""
    redis.Redis.from_url(redis_url).flushdb()
    settings = Settings(data=tmp_path, redis_url=redis_url)  # type: ignore[arg-type]
    migrate.upgrade(settings.sqlalchemy_url())
    given = {"CLIPCITE_DATA": str(tmp_path), "CLIPCITE_REDIS_URL": redis_url, "CLIPCITE_WARM_TRAINER": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT], env={**os.environ, **given}, stderr=subprocess.PIPE, text=True
    )
    try:
        app = make_celery(settings)
        wait_for(lambda: app.control.cancel_consumer(QUEUE, reply=True), seconds=600)
        assert process.poll() is None
        send_adapt(app, "job_1")
        said = process.communicate(timeout=600)[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "this idle worker received none" in said
