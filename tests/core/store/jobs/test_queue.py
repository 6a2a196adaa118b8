"""Messages through the file queue and Redis, with a real worker."""

import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty

import pytest
import redis
from celery import Celery

from core.settings import Settings
from core.store.errors import QueueUnavailable
from core.store.jobs import queue
from tests.service.running import wait_for

ROOT = Path(__file__).parents[4]


@pytest.fixture(params=["files", "redis"])
def environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPCITE_REDIS_URL", raising=False)
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url).flushdb()
        monkeypatch.setenv("CLIPCITE_REDIS_URL", url)
    return dict(os.environ)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Return a client of the file queue."""
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPCITE_REDIS_URL", raising=False)
    made = queue.make_celery(Settings())
    yield made
    made.close()


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


def turn_into_a_pickle(environment: dict[str, str], folder: Path, bomb: Path) -> None:
    """Replace the body of the only message by a pickle that creates a file when it is loaded."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (bomb,))

    def loaded(message: str) -> str:
        envelope = json.loads(message)
        envelope["body"] = base64.b64encode(pickle.dumps(Bomb())).decode()
        envelope["content-type"] = "application/x-python-serialize"
        envelope["content-encoding"] = "binary"
        return json.dumps(envelope)

    if "CLIPCITE_REDIS_URL" in environment:
        server = redis.Redis.from_url(environment["CLIPCITE_REDIS_URL"], decode_responses=True)
        key = next(key for key in server.scan_iter() if server.type(key) == "list")
        server.lset(key, 0, loaded(str(server.lindex(key, 0))))
    else:
        file = next((folder / "messages").iterdir())
        file.write_text(loaded(file.read_text()))


def test_messages_reach_the_worker_and_a_pickle_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A pickle among them is refused, and the worker goes on."""
    app = queue.make_celery(Settings())
    queue.check(app)
    notes, bomb, folder = tmp_path / "notes", tmp_path / "bomb", tmp_path / "data" / "queue"
    queue.send_adapt(app, "job_pickle")
    turn_into_a_pickle(environment, folder, bomb)
    first = [f"job_{number}" for number in range(10)]
    for job_id in first:
        queue.send_adapt(app, job_id)
    with worker(environment, notes):
        wait_for(lambda: noted(notes) == first)
        queue.send_adapt(app, "job_late")
        wait_for(lambda: noted(notes) == [*first, "job_late"])
    app.close()
    assert not bomb.exists()
    if "CLIPCITE_REDIS_URL" not in environment:
        assert [path.name for path in folder.rglob("*") if path.is_file()] == []
        assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700}


def test_a_file_that_is_no_message_is_set_aside(
    app: Celery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data" / "queue" / "messages"
    for name, content in (("latin", b"\xff"), ("empty", b""), ("text", b"no JSON"), ("list", b"[]")):
        (folder / f"0_{name}.{queue.QUEUE}.msg").write_bytes(content)
    (folder / f"0_folder.{queue.QUEUE}.msg").mkdir()
    # Also the superuser can't read a link to itself.
    (folder / f"0_link.{queue.QUEUE}.msg").symlink_to(f"0_link.{queue.QUEUE}.msg")
    queue.send_adapt(app, "job_good")
    with app.connection_for_read() as connection, connection.channel() as channel:
        assert "job_good" in base64.b64decode(channel._get(queue.QUEUE)["body"]).decode()
        with pytest.raises(Empty):
            channel._get(queue.QUEUE)
    names = ("empty", "folder", "latin", "link", "list", "text")
    assert sorted(path.name for path in folder.iterdir()) == [f"0_{name}.{queue.QUEUE}.bad" for name in names]
    assert len(caplog.records) == len(names)


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


def test_a_reader_beside_a_busy_sender_gets_whole_messages_in_order(app: Celery) -> None:
    """The file transport renames complete files: a message read while being written would stop the worker."""
    wanted = [f"job_{number}" for number in range(100)]

    def send() -> None:
        for job_id in wanted:
            queue.send_adapt(app, job_id)

    sender = threading.Thread(target=send)
    with app.connection_for_read() as connection, connection.SimpleQueue(queue.QUEUE) as messages:
        sender.start()
        got = []
        for _ in wanted:
            message = messages.get(timeout=60)
            got.append(message.payload[0][0])
            message.ack()
    sender.join()
    assert got == wanted


def test_each_message_has_one_reader_and_never_leaves_the_queues_folder(
    app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move to the temporary folder may be a copy, which two readers can make."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    sent = [f"job_{number}" for number in range(100)]
    for job_id in sent:
        queue.send_adapt(app, job_id)

    def read(_: int) -> list[str]:
        got = []
        with (
            app.connection_for_read() as connection,
            connection.SimpleQueue(queue.QUEUE, no_ack=True) as messages,
            suppress(Empty),
        ):
            while True:
                got.append(messages.get_nowait().payload[0][0])
        return got

    with ThreadPoolExecutor(4) as threads:
        got = [job_id for part in threads.map(read, range(4)) for job_id in part]
    assert sorted(got) == sorted(sent)


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


def test_a_full_broker_is_detected(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full broker still answers, so that a ping does not reveal the problem."""
    monkeypatch.setenv("CLIPCITE_REDIS_URL", redis_url)
    app = queue.make_celery(Settings())
    server = redis.Redis.from_url(redis_url)
    server.flushdb()
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
