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
from clipcite.types.jobs import FINAL
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import Job
from core.store.errors import DatabaseUnavailable
from core.store.storage.blobs import Blobs
from tests import servers
from tests.core.clip.tiny import make_tiny_backbone
from tests.service.running import wait_for

T = TypeVar("T")
LEASE_SECONDS = 3.0
MAX_ATTEMPTS = 3
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
    aborting_backbone: str
    """A backbone that the trainer does not survive (sitecustomize.py)."""
    redis: servers.Server
    postgres: servers.Server | None
    bucket: servers.Server | None

    def query(self, statement: Callable[[Session], T]) -> T:
        """Run a query, repeated for a minute while the database is unavailable."""
        until = time.monotonic() + 60
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


@contextmanager
def world(store: str, folder: Path) -> Iterator[World]:
    """Run the service on `store` in an empty folder, and stop everything at the end."""
    with ExitStack() as stack:
        backbones = folder / "backbones"
        tiny = make_tiny_backbone(backbones / "tiny")
        aborting = make_tiny_backbone(backbones / "aborts")
        data = folder / "data"
        environment = {
            "CLIPCITE_DATA": str(data),
            "CLIPCITE_REQUIRE_TOKEN": "false",
            "CLIPCITE_CACHE": str(folder / "cache"),
            "CLIPCITE_BACKBONE": tiny,
            "CLIPCITE_BACKBONES": json.dumps([aborting]),
            "CLIPCITE_LEASE_SECONDS": str(LEASE_SECONDS),
            "CLIPCITE_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "OMP_NUM_THREADS": "1",  # more threads only spin on work this small
            "PYTHONPATH": f"{FAILPOINTS}:{ROOT}",
            FORKS: str(folder / "forks"),
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
        cluster = Cluster(["api", "worker-1", "worker-2", "dispatcher"], environment, folder / "logs")
        stack.enter_context(cluster.running())
        client = Client(cluster.url)
        yield World(store, cluster, client, database, blobs, aborting, redis, postgres, bucket)


@contextmanager
def _forks(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the process from which trainers are forked."""
    process = subprocess.Popen(
        [sys.executable, FAILPOINTS / "forks.py", path],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
    )
    try:
        wait_for(path.exists, unless=lambda: process.poll() is not None)
        yield
    finally:
        process.kill()
        process.wait()
