"""Two workers, one with a full disk: the other one runs every job."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.binaries import redis_binary
from tests.disk import fill, small_disk
from tests.servers import free_port
from tests.service.running import colours, serve, submit, succeeded, wait_for

pytestmark = pytest.mark.slow

JOBS = 8  # Twice as many as the dispatcher sends ahead.


@contextmanager
def own_redis() -> Iterator[str]:
    """Run a Redis as this user, the only one in the test's namespace, and yield its URL."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([redis_binary(), *options], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return bool(redis.Redis(port=port).ping())
        except redis.ConnectionError:
            return False

    try:
        wait_for(answers, seconds=600, unless=lambda: process.poll() is not None)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def second_worker(data: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a worker whose scratch files are in `data`, otherwise with the settings of `environment`."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"],
            env={**os.environ, **environment, "CLIPCITE_DATA": str(data)},
            stdout=said,
            stderr=said,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@pytest.mark.mounts
def test_a_worker_with_a_full_disk_keeps_no_job_from_the_other(
    environment: dict[str, str], tmp_path: Path
) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    with own_redis() as redis_url:
        given = {
            **environment,
            "CLIPCITE_DATABASE_URL": f"sqlite:///{data / 'clipcite.db'}",
            "CLIPCITE_BLOB_URL": (data / "blobs").as_uri(),
            "CLIPCITE_REDIS_URL": redis_url,
            # Longer than the test, so that a job whose message is held or requeued would be missed.
            "CLIPCITE_LEASE_SECONDS": "3600",
        }
        with small_disk(tmp_path / "disk", megabytes=4) as disk:
            fill(disk)
            with serve(data, given) as service, service.http as http, second_worker(disk, given, log):
                wait_for(lambda: b"ready" in log.read_bytes(), seconds=600, explain=log.read_text)
                made = [submit(http, colours(shots=1), epochs=1) for _ in range(JOBS)]
                for job_id in made:
                    succeeded(http, job_id)
                said = log.read_text()
                # The worker took one message and requeued its job.
                assert said.count("attempt 1 failed, storage_full") == 1
