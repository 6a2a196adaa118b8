"""Environment of a run: servers, the service's processes, a client, and access to the database."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.chaos.client import Client
from benchmarks.chaos.cluster import FORKS, Cluster
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import FINAL, Job
from core.store.errors import DatabaseUnavailable
from core.store.storage.blobs import Blobs
from tests import servers
from tests.core.clip.tiny import make_tiny_backbone

T = TypeVar("T")
LEASE_SECONDS = 3.0
MAX_ATTEMPTS = 3
FORKS_SECONDS = 600.0
STORES = {
    "postgres": "PostgreSQL + Redis",
    "sqlite": "SQLite + Redis",
    "s3": "PostgreSQL + Redis + S3",
}
FAILPOINTS = Path(__file__).parent / "failpoints"
ROOT = Path(__file__).parents[2]


@dataclass
class World:
    store: str
    cluster: Cluster
    client: Client
    database: Database
    blobs: Blobs
    data: Path
    backbones: Path
    redis: servers.Server
    postgres: servers.Server | None
    bucket: servers.Server | None

    def backbone(self, name: str) -> str:
        """Return a backbone that the trainer does not survive: `aborts` or `spins` (sitecustomize.py)."""
        return f"local-dir:{self.backbones / name}"

    def query(self, statement: Callable[[Session], T], *, seconds: float = 60) -> T:
        """Run a query, repeated while the database is unavailable."""
        until = time.monotonic() + seconds
        while True:
            try:
                with self.database.read() as session:
                    return statement(session)
            except DatabaseUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def finished_jobs(self) -> int:
        """Return the number of jobs that have ended."""
        counted = select(func.count()).select_from(Job).where(Job.status.in_(FINAL))
        return self.query(lambda s: s.scalar(counted)) or 0

    def wait(self, condition: Callable[[], T], *, seconds: float, what: str) -> T:
        """Wait until the condition is truthy, and return its value.

        Raises:
            TimeoutError: the condition is still falsy after `seconds`.
        """
        until = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > until:
                raise TimeoutError(f"Not within {seconds:g} s: {what}.")
            time.sleep(0.1)


@contextmanager
def world(
    store: str, folder: Path, *, workers: int = 2, dispatchers: int = 1, **settings: float
) -> Iterator[World]:
    """Run the service on `store` in an empty folder, and stop everything at the end.

    `settings` are further settings of the service, for example `deadline_seconds=10`.
    """
    with ExitStack() as stack:
        backbones = folder / "backbones"
        tiny = make_tiny_backbone(backbones / "tiny")
        others = [make_tiny_backbone(backbones / name) for name in ("aborts", "spins")]
        data = folder / "data"
        environment = {
            "CLIPCITE_DATA": str(data),
            "CLIPCITE_REQUIRE_TOKEN": "false",
            "CLIPCITE_CACHE": str(folder / "cache"),
            "CLIPCITE_BACKBONE": tiny,
            "CLIPCITE_BACKBONES": json.dumps(others),
            "CLIPCITE_LEASE_SECONDS": str(LEASE_SECONDS),
            "CLIPCITE_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "OMP_NUM_THREADS": "1",  # more threads only spin on work this small
            "PYTHONPATH": f"{FAILPOINTS}:{ROOT}",
            FORKS: str(folder / "forks"),
            **{f"CLIPCITE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        stack.enter_context(_forks(folder / "forks", environment))
        postgres = bucket = None
        redis = stack.enter_context(servers.redis_server())
        environment["CLIPCITE_REDIS_URL"] = redis.url
        url = f"sqlite:///{data / 'clipcite.db'}"
        if store != "sqlite":
            postgres = stack.enter_context(servers.postgres_server())
            url = environment["CLIPCITE_DATABASE_URL"] = postgres.url
        blobs = Blobs((data / "blobs").absolute().as_uri())
        if store == "s3":
            bucket = stack.enter_context(servers.durable_s3_server())
            prefix = f"s3://{servers.BUCKET}/blobs"
            access = servers.bucket_access(bucket.url, servers.REGION, servers.ACCESS_KEY, servers.SECRET_KEY)
            with patch.dict(os.environ, access):
                blobs = Blobs(prefix)
            environment |= {"CLIPCITE_BLOB_URL": prefix, **access}
        migrate.upgrade(url)
        database = Database(url)
        stack.callback(database.close)
        names = ["api", *(f"worker-{i}" for i in range(1, workers + 1))]
        names += [f"dispatcher-{i}" for i in range(1, dispatchers + 1)]
        cluster = Cluster(names, environment, folder / "logs")
        stack.enter_context(cluster.running())
        client = Client(cluster.url, folder / "accepted.jsonl")
        yield World(store, cluster, client, database, blobs, data, backbones, redis, postgres, bucket)


@contextmanager
def _forks(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the process from which trainers are forked."""
    process = subprocess.Popen(
        [sys.executable, FAILPOINTS / "forks.py", path],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + FORKS_SECONDS
        while not path.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("The process from which trainers are forked did not start.")
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()
