"""The whole loop over HTTP: adapt, poll, classify; on files and on real servers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from core.store.db import migrate
from tests.conftest import postgres_database
from tests.receiver import receiver
from tests.servers import bucket_access, free_port
from tests.service.running import (
    classified,
    colours,
    is_ready,
    plain,
    submit,
    succeeded,
    training,
    wait_for,
    wait_for_job,
)


@contextmanager
def distributed(environment: dict[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """Run two API replicas, a worker and a dispatcher, each with its own command and data folder, as on
    several machines.

    Yields the replicas' URLs.
    """
    ports = [str(free_port()), str(free_port())]
    with ExitStack() as stack:
        for place, command in enumerate(
            [*(["api", "--port", port] for port in ports), ["worker", "--device", "cpu"], ["dispatcher"]]
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "clipcite", *command, "--data", str(folder / str(place))],
                env={**os.environ, **environment},
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        wait_for(lambda: all(map(is_ready, urls)))
        yield urls[0], urls[1]


@pytest.mark.slow
def test_postgresql_and_redis_and_s3(
    environment: dict[str, str],
    postgres_url: str,
    redis_url: str,
    s3_endpoint: str,
    s3_bucket: str,
    tmp_path: Path,
) -> None:
    """Images and weights are in a bucket: data sent to one replica is available on the other."""
    with postgres_database(postgres_url) as database_url:
        migrate.upgrade(database_url)
        settings = {
            **environment,
            "CLIPCITE_WEBHOOK_ALLOW_PRIVATE": "true",
            "CLIPCITE_DATABASE_URL": database_url,
            "CLIPCITE_REDIS_URL": redis_url,
            "CLIPCITE_BLOB_URL": f"s3://{s3_bucket}/clipcite",
            **bucket_access(s3_endpoint),
        }
        with (
            distributed(settings, tmp_path) as (a, b),
            httpx.Client(base_url=a, timeout=600) as http,
            httpx.Client(base_url=b, timeout=600) as other,
            receiver() as hook,
        ):
            job_id = submit(http, colours(tests=2), epochs=2, webhook=hook.url)
            job = succeeded(other, job_id)
            for replica in (http, other):
                replica.headers["X-Clipcite-Model"] = job["model_id"]
            for shade in range(4):
                image = plain("red" if shade % 2 else "green", shade)
                answers = [
                    classified(replica, "red", "blue", model=job["model_id"], image=image)["results"]
                    for replica in (http, other)
                ]
                assert answers[0] == answers[1]
            wait_for(lambda: hook.hits)
            assert json.loads(hook.hits[0][2])["data"]["model_id"] == job["model_id"]
            # Redis loses everything while one job waits behind another.
            running = submit(http, colours(), epochs=200, batch_size=8)
            training(http, running)
            waiting = submit(http, colours(), epochs=1)
            redis.Redis.from_url(redis_url).flushall()
            assert wait_for_job(http, running)["status"] == "succeeded"
            job = succeeded(http, waiting)
            assert http.delete(f"/models/{job['model_id']}").status_code == 204
            assert http.delete(f"/jobs/{waiting}").status_code == 204
            left = httpx.get(f"{s3_endpoint}/{s3_bucket}?list-type=2", timeout=600).text
            assert left.count("<Key>clipcite/models/") == 4
            assert job["model_id"] not in left
            assert waiting not in left
    # No folder holds anything that another replica would need.
    assert {path.name for path in tmp_path.glob("*/*")} <= {"tmp"}
