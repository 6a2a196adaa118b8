"""Fixtures shared by several folders: migrated databases and real servers."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import hypothesis
import pytest
import redis
from sqlalchemy import NullPool, create_engine, make_url, text

from core.store.db import client_timeout, engine, migrate
from core.store.db.session import Database
from core.store.db.tables import METADATA
from tests import disk, servers
from tests.hub import Hub, running_hub

if TYPE_CHECKING:
    from core.clip.models.backbone import Backbone
    from tests.service.running import Service

MIN_FREE_MEMORY = 8_000_000_000
"""Minimum free memory for the tests' files (bytes); one run uses a quarter of it."""
ROOT = Path(__file__).parents[1]
Assembled = tuple[Path, list[str]]
TABLES = METADATA.sorted_tables
USUAL_LIMITS = {**engine.LIMITS, "busy": engine.BUSY_MILLISECONDS}
"""Time limits of the product on databases. The tests have more patience."""
_numbers = itertools.count()


# No deadline: a busy machine is not a failure.
hypothesis.settings.register_profile("clipcite", deadline=None)
hypothesis.settings.load_profile("clipcite")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory if it suffices: a thousand databases then wait for no disk.

    Services require no token, except in the tests of the token and of the documentation.
    """
    os.environ["CLIPCITE_REQUIRE_TOKEN"] = "false"
    be_patient_with_databases()
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > MIN_FREE_MEMORY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def be_patient_with_databases() -> None:
    """Let no connection, lock or statement of this process fail because the machine is busy."""
    engine.LIMITS.update(dict.fromkeys(engine.LIMITS, 600_000))
    engine.CONNECT_SECONDS = engine.POOL_SECONDS = 600
    engine.BUSY_MILLISECONDS = 600_000
    client_timeout.ANSWER_SECONDS = client_timeout.PING_SECONDS = 600.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a running service or a browser as slow, except the smoke tests."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"service", "browser"} and item.get_closest_marker("smoke") is None:
            item.add_marker(pytest.mark.slow)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests marked `mounts` in a namespace that permits mounting."""
    if pyfuncitem.get_closest_marker("mounts") is None or disk.NAMESPACE in os.environ:
        return None
    disk.run_in_namespace(pyfuncitem)
    return True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Yield a local model hub, to which downloads of this process go."""
    import huggingface_hub.constants  # Slow to import, and most test folders do without.

    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        # Older versions copy the constant into another module.
        name = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(name, template, raising=False)
        # Pieces small enough for the files of tests, and no pause before the next try.
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
        yield hub


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield a PostgreSQL server. Tests create their own databases in it through `database_url`."""
    try:
        with servers.postgres() as url:
            yield url
    except servers.ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    try:
        with servers.redis_url() as url:
            yield url
    except servers.ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture
def empty_redis_url(redis_url: str) -> str:
    """Return a broker without messages, which no other test uses meanwhile."""
    redis.Redis.from_url(redis_url).flushdb()
    return redis_url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Yield an S3 server that accepts any key. Tests create their own buckets in it through `s3_bucket`."""
    with servers.s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """Return the name of a fresh bucket."""
    name = f"bucket-{next(_numbers)}"
    httpx.put(f"{s3_endpoint}/{name}", timeout=600).raise_for_status()
    return name


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """Return the name of a migrated database to copy."""
    with postgres_database(postgres_url) as url:
        migrate.upgrade(url)
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> "Backbone":
    """Return a tiny real backbone, shared and read-only. CLIPCITE_BACKBONE accepts its name."""
    from core.clip.models.backbone import load_backbone  # Imports torch, which most test folders do without.
    from tests.core.clip.tiny import make_tiny_backbone

    cache = tmp_path_factory.mktemp("tiny")
    return load_backbone(make_tiny_backbone(cache / "network"), cache=cache)


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    """Assemble the starter in two processes at once. Return the cache folder and each process's result.

    The processes of pytest-xdist share the folder, because assembling takes longer than most tests.
    """
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "starter"
    # Two threads in each of two processes are slow on two cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "core.clip.models.starter", str(cache)]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=1800)
        assert process.returncode == 0, err
        results.append(out)
    return cache, results


@pytest.fixture
def cache_with_starter(assembled: Assembled, tmp_path: Path) -> Path:
    """Return a cache folder of the test's own, in which the starter is assembled."""
    cache = tmp_path / "cache"
    ignore = shutil.ignore_patterns("*.lock")
    shutil.copytree(assembled[0], cache, copy_function=os.link, ignore=ignore)
    return cache


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with train/ and test/ of drawings, which the starter recognises."""
    from tests.drawings import write

    folder = tmp_path_factory.mktemp("drawings")
    write(folder)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return settings for a tiny random model and short intervals: a training takes as long as its epochs
    say.
    """
    from tests.core.clip.tiny import make_tiny_backbone

    return {
        "CLIPCITE_BACKBONE": make_tiny_backbone(tmp_path_factory.mktemp("backbone") / "tiny"),
        "CLIPCITE_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": "1",  # More threads only spin on work this small.
        "CLIPCITE_LEASE_SECONDS": "3",
    }


@pytest.fixture(scope="session")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator["Service"]:
    """Run `clipcite serve` once for all tests that neither stop it nor depend on what others have stored.

    Its processes may be killed: `serve` restarts them.
    """
    from tests.service.running import serve

    with serve(tmp_path_factory.mktemp("data"), environment) as service:
        yield service


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("migrated") / "clipcite.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def database_url(migrated: Path, tmp_path: Path) -> str:
    """Return a fresh migrated database. `tests/core/store/databases` replaces it by one on each system."""
    path = tmp_path / "data" / "clipcite.db"
    path.parent.mkdir(mode=0o700)
    shutil.copy(migrated, path)
    return f"sqlite:///{path}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@contextmanager
def postgres_database(server: str, template: str = "template0") -> Iterator[str]:
    """Create a database and drop it at the end, even if connections remain open."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"clipcite_test_{os.getpid()}_{next(_numbers)}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
