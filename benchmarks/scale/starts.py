"""Starts per second: eight dispatchers send wake-ups through Redis, and processes claim and end the jobs."""

import multiprocessing
import queue
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import psutil
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from core.settings import Settings
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.jobs import leases
from core.store.jobs.queue import QUEUE, make_celery
from tests.servers import redis_url
from worker.dispatcher.__main__ import dispatch

try:
    from core.store.jobs import workers
except ImportError:  # versions that do not know their workers
    workers = None  # type: ignore[assignment]

DISPATCHERS = 8
RUNNERS = 4
WORKERS = 256
"""Simulated workers, each with a thread of one of the processes."""
JOB_SECONDS = 0.2


@dataclass(frozen=True)
class Starts:
    """Outcome of the simulation."""

    seconds: float
    sent: int
    started: int
    starts_per_second: float
    server_ms_per_start: float
    """Processor time of all processes of PostgreSQL."""
    errors: int


def run_starts(url: str, *, seconds: float) -> Starts:
    """Run dispatchers and workers for this time."""
    with redis_url() as broker:
        stop = multiprocessing.Event()
        counts: Any = multiprocessing.Queue()
        processes = [
            *(
                multiprocessing.Process(target=_dispatch, args=(url, broker, stop, counts))
                for _ in range(DISPATCHERS)
            ),
            *(
                multiprocessing.Process(target=_work, args=(url, broker, stop, counts))
                for _ in range(RUNNERS)
            ),
        ]
        for process in processes:
            process.start()
        for _ in processes:
            counts.get(timeout=120)  # ready
        before, started = _server_seconds(url), time.monotonic()
        time.sleep(seconds)
        stop.set()
        duration = time.monotonic() - started
        found = [counts.get(timeout=120) for _ in processes]
        used = _server_seconds(url) - before
        for process in processes:
            process.join(60)
    total = {name: sum(one.get(name, 0) for one in found) for name in ("sent", "started", "errors")}
    return Starts(
        duration,
        total["sent"],
        total["started"],
        total["started"] / duration,
        1000 * used / max(1, total["started"]),
        total["errors"],
    )


def _settings(url: str, broker: str) -> Settings:
    # A long lease, so that the simulated workers report themselves once.
    return Settings(database_url=SecretStr(url), redis_url=SecretStr(broker), lease_seconds=600)


def _server_seconds(url: str) -> float:
    """Return the processor time of the server: its postmaster and all living and ended children."""
    engine = create_engine(url)
    with engine.connect() as connection:
        process = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()"))).parent()
    engine.dispose()
    assert process is not None
    total = 0.0
    for one in (process, *process.children()):
        with suppress(psutil.NoSuchProcess):  # then it is among the ended ones
            times = one.cpu_times()
            total += times.user + times.system
    times = process.cpu_times()
    return float(total + times.children_user + times.children_system)


def _dispatch(url: str, broker: str, stop: Event, counts: Any) -> None:
    settings = _settings(url, broker)
    database, app = Database(settings.sqlalchemy_url()), make_celery(settings)
    sent = errors = 0
    counts.put("ready")
    while not stop.is_set():
        try:
            sent += len(dispatch(settings, database, app))
        except DatabaseUnavailable:
            errors += 1
        stop.wait(settings.dispatch_seconds)
    counts.put({"sent": sent, "errors": errors})


def _work(url: str, broker: str, stop: Event, counts: Any) -> None:
    """Claim the jobs of received messages, and end each after JOB_SECONDS."""
    settings = _settings(url, broker)
    database, app = Database(settings.sqlalchemy_url()), make_celery(settings)
    mine = WORKERS // RUNNERS
    names = [f"runner-{multiprocessing.current_process().pid}-{number}" for number in range(mine)]
    running: list[tuple[float, leases.Claim]] = []
    started = errors = 0
    if workers is not None:
        with database.write() as session:
            for name in names:
                workers.report(session, name)
    counts.put("ready")
    with app.connection_for_read() as connection:
        messages = connection.SimpleQueue(QUEUE)
        while not stop.is_set():
            try:
                while running and running[0][0] < time.monotonic():
                    with database.write() as session:
                        leases.finish_failed(session, running.pop(0)[1], code="simulated", detail="")
                if len(running) == mine:
                    time.sleep(0.01)
                    continue
                message = messages.get(timeout=0.05)
                message.ack()
                with database.write() as session:
                    claim = leases.claim(
                        session, message.decode()[0][0], worker=names[0], lease_seconds=settings.lease_seconds
                    )
                if claim is not None:
                    started += 1
                    running.append((time.monotonic() + JOB_SECONDS, claim))
            except queue.Empty:
                continue
            except DatabaseUnavailable:
                errors += 1
    counts.put({"started": started, "errors": errors})
