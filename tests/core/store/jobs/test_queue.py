"""Messages through a real server, with a real worker."""

import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery

from core.settings import Settings
from core.store.errors import QueueUnavailable
from core.store.jobs import queue
from tests.service.running import wait_for

ROOT = Path(__file__).parents[4]


@pytest.fixture
def environment(empty_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLIPCITE_REDIS_URL", empty_redis_url)
    return dict(os.environ)


@contextmanager
def worker(environment: dict[str, str], notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.core.store.queue_worker", notes],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(600)


def noted(notes: Path) -> list[str]:
    return notes.read_text().split() if notes.exists() else []


def turn_into_a_pickle(server: redis.Redis, bomb: Path) -> None:
    """Replace the body of the only message by a pickle that creates a file when it is loaded."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (bomb,))

    key = next(key for key in server.scan_iter() if server.type(key) == "list")
    envelope = json.loads(str(server.lindex(key, 0)))
    envelope["body"] = base64.b64encode(pickle.dumps(Bomb())).decode()
    envelope["content-type"] = "application/x-python-serialize"
    envelope["content-encoding"] = "binary"
    server.lset(key, 0, json.dumps(envelope))


def test_messages_reach_the_worker_and_a_pickle_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A pickle among them is refused, and the worker goes on."""
    app = queue.make_celery(Settings())
    queue.check(app)
    notes, bomb = tmp_path / "notes", tmp_path / "bomb"
    queue.send_adapt(app, "job_pickle")
    server = redis.Redis.from_url(environment["CLIPCITE_REDIS_URL"], decode_responses=True)
    server.config_resetstat()
    turn_into_a_pickle(server, bomb)
    first = [f"job_{number}" for number in range(10)]
    for job_id in first:
        queue.send_adapt(app, job_id)
    with worker(environment, notes):
        wait_for(lambda: noted(notes) == first)
        queue.send_adapt(app, "job_late")
        wait_for(lambda: noted(notes) == [*first, "job_late"])
    app.close()
    assert not bomb.exists()
    # No acknowledgement can fail: they need a sorted set, the index of unacknowledged messages.
    assert "cmdstat_zadd" not in server.info("commandstats")


@pytest.mark.slow
def test_a_busy_worker_leaves_messages_to_an_idle_one(environment: dict[str, str], tmp_path: Path) -> None:
    app = queue.make_celery(Settings())
    busy, idle = tmp_path / "busy", tmp_path / "idle"
    with worker(environment, busy):
        try:
            queue.send_adapt(app, "job_held")
            wait_for(lambda: noted(busy) == ["job_held"])
            queue.send_adapt(app, "job_next")
            # The idle worker starts last: until then a busy one has time to take the message.
            with worker(environment, idle):
                wait_for(lambda: noted(idle) == ["job_next"], seconds=60)
        finally:
            (tmp_path / "released").touch()
    assert busy.read_text().split() == ["job_held"]
    app.close()


@pytest.mark.slow
def test_an_absent_or_hanging_broker_is_detected_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def app_of(port: int) -> Celery:
        monkeypatch.setenv("CLIPCITE_REDIS_URL", f"redis://:secret@127.0.0.1:{port}/0")
        return queue.make_celery(Settings())

    with socket.create_server(("127.0.0.1", 0)) as silent:  # Accepts connections and never answers.
        away, hangs = app_of(1), app_of(silent.getsockname()[1])
        for ask in (lambda: queue.check(away), lambda: queue.send_adapt(hangs, "job_1")):
            with pytest.raises(QueueUnavailable) as refused:
                ask()
            assert "secret" not in refused.value.detail


def test_a_full_broker_is_detected(empty_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full broker still answers, so that a ping does not reveal the problem."""
    monkeypatch.setenv("CLIPCITE_REDIS_URL", empty_redis_url)
    app = queue.make_celery(Settings())
    server = redis.Redis.from_url(empty_redis_url)
    queue.check(app)
    server.config_set("maxmemory", 1)
    try:
        for ask in (lambda: queue.check(app), lambda: queue.send_adapt(app, "job_1")):
            with pytest.raises(QueueUnavailable, match="memory"):
                ask()
        assert queue.waiting(app) == 0
    finally:
        server.config_set("maxmemory", 0)
    queue.check(app)
