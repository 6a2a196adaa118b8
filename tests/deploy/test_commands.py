"""Every command of the compose file, run as in its container.

The commands get the environment of the image and the file, secrets in files, a real PostgreSQL and Redis, no
home folder, and `/` as the working folder. Not covered: the container's user, read-only root and networks.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import postgres_database
from tests.core.clip.tiny import make_tiny_backbone
from tests.deploy.files import ROOT, image_environment, lineage, own_services
from tests.servers import free_port
from tests.service.running import wait_for

pytestmark = pytest.mark.slow

HEALTHY_SECONDS = 120
STOP_SECONDS = 30  # The grace period in the compose file.
KEY = "a key that only this test knows"
HOME = "/nonexistent"


@dataclass(frozen=True)
class Place:
    """Local replacements of a container's mounts and of the services that it reaches by name."""

    folder: Path
    environment: dict[str, str]
    port: int

    def here(self, text: str) -> str:
        """Replace the container's paths and port in the text by the local ones."""
        for path in ("/data", "/cache", "/tmp"):
            text = text.replace(f"{path}/", f"{self.folder}{path}/")
        return text.replace("8000", str(self.port))

    def run(self, name: str) -> "subprocess.Popen[str]":
        service = own_services()[name]
        [entry] = [json.loads(line) for stage in lineage("cpu") for line in stage.of("ENTRYPOINT")]
        assert entry == ["clipcite"]
        return subprocess.Popen(
            [sys.executable, "-m", "clipcite.cli.main", *map(self.here, service["command"])],
            env=self._environment(service["environment"]),
            cwd="/",
            stderr=subprocess.PIPE,
            text=True,
        )

    def healthy(self, name: str) -> bool:
        """Run the image's check of the API, or the probe that Kubernetes has for a worker or a dispatcher."""
        if name != "api":
            port = int(self.environment["CLIPCITE_METRICS_PORT"]) + (name == "dispatcher")
            try:
                return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).is_success
            except httpx.ConnectError:
                return False
        program, *arguments = _image_check()
        assert program == "python"
        command = [sys.executable, *map(self.here, arguments)]
        return (
            subprocess.run(command, env=self._environment({}), cwd="/", capture_output=True).returncode == 0
        )

    def _environment(self, of_service: dict[str, str]) -> dict[str, str]:
        named = {**image_environment(), **of_service}
        there = {n: self.here(f"{v}/")[:-1] for n, v in named.items() if n != "PATH" and v is not None}
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": HOME,
            **there,
            **self.environment,
        }


def _image_check() -> list[str]:
    [check] = [line for stage in lineage("cpu") for line in stage.of("HEALTHCHECK")]
    _, _, command = check.partition("CMD ")
    arguments: list[str] = json.loads(command)
    return arguments


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, redis_url: str) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("containers")
    for name in ("data/tmp", "cache", "tmp", "secrets"):
        (folder / name).mkdir(parents=True)
    port, metrics_port = free_port(), free_port()
    with postgres_database(postgres_url) as database:
        url = database.replace("postgresql+psycopg", "postgresql")
        (folder / "secrets" / "clipcite_database_url").write_text(url)
        (folder / "secrets" / "clipcite_admin_key").write_text(KEY)
        environment = {
            "CLIPCITE_SECRETS": str(folder / "secrets"),
            "CLIPCITE_REDIS_URL": redis_url,
            "CLIPCITE_HOST": "127.0.0.1",
            "CLIPCITE_PORT": str(port),
            "CLIPCITE_METRICS_PORT": str(metrics_port),
            "CLIPCITE_WARM_TRAINER": "false",  # No job arrives.
            "CLIPCITE_BACKBONE": make_tiny_backbone(folder / "tiny"),
        }
        place = Place(folder, environment, port)
        migration = place.run("migrate")
        assert migration.wait(60) == 0, migration.stderr and migration.stderr.read()
        yield place


@contextmanager
def running(place: Place, name: str) -> Iterator["subprocess.Popen[str]"]:
    process = place.run(name)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        _, said = process.communicate()
        sys.stdout.write(said)  # pytest shows this if the test fails.


def test_the_processes_become_healthy_and_stop_on_sigterm(place: Place) -> None:
    names = ("api", "worker", "dispatcher")
    with (
        running(place, "api") as api,
        running(place, "worker") as worker,
        running(place, "dispatcher") as dispatcher,
    ):
        processes = dict(zip(names, (api, worker, dispatcher), strict=True))
        assert not any(place.healthy(name) for name in names)
        for name, process in processes.items():
            wait_for(
                lambda name=name: place.healthy(name) or time.sleep(0.5),
                seconds=HEALTHY_SECONDS,
                unless=lambda process=process: process.poll() is not None,
            )
        with httpx.Client(base_url=f"http://127.0.0.1:{place.port}", trust_env=False) as http:
            assert http.get("/readyz").json()["status"] == "ok"
            assert http.get("/jobs").status_code == 401
            assert http.get("/jobs", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in processes.items():
            # After an orderly shutdown uvicorn ends itself with the signal.
            assert process.wait(STOP_SECONDS) in {0, -signal.SIGTERM}, name
    assert not Path(HOME).exists()
