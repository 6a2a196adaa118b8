"""Processes killed at the worst moments: no job is lost, and none runs after its end."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import update

from core.store.db.session import Database, database_now
from core.store.db.tables import Job
from tests.core.store.races import meanwhile
from tests.service.running import (
    FAILPOINTS,
    PATIENCE,
    ROOT,
    Hold,
    Service,
    checkpoint,
    colours,
    epochs_of,
    is_alive,
    is_ready,
    serve,
    submit,
    succeeded,
    training,
    wait_for,
    wait_for_job,
)

LONG = {"epochs": 1000, "batch_size": 8}


@pytest.fixture(scope="module")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service of its own: the tests count attempts and measure times without other jobs."""
    with serve(tmp_path_factory.mktemp("data"), environment) as service:
        yield service


@pytest.mark.slow
def test_a_killed_trainer_runs_again_while_the_api_answers(service: Service) -> None:
    with service.http as http, service.http as other:
        answers: list[int] = []
        with meanwhile(lambda: answers.append(other.get("/jobs").status_code)):
            job_id = submit(http, colours(), **(LONG | {"epochs": 200}))
            training(http, job_id)
            service.child("worker.trainer").kill()
            succeeded(http, job_id, attempts=2)
    assert len(answers) > 20
    assert set(answers) == {200}
    events = [e["type"] for e in httpx.get(f"{service.url}/jobs/{job_id}/events", timeout=600).json()["data"]]
    assert events.count("requeued") == 1
    assert events.count("succeeded") == 1


@pytest.mark.slow
def test_killed_processes_are_restarted(service: Service) -> None:
    before = [service.child("api"), service.child("worker"), service.valkey()]
    for process in before:
        process.kill()
        wait_for(lambda process=process: not process.is_running())
    with service.http as http:
        wait_for(lambda: is_ready(service.url))
        assert wait_for_job(http, submit(http, colours(), epochs=1))["status"] == "succeeded"


@pytest.mark.slow
def test_a_worker_killed_before_its_claim_loses_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    """The message was sent and is lost with the worker, so the next dispatcher sends it again."""
    with serve(tmp_path / "data", environment) as service, service.http as http:
        worker = service.child("worker")
        worker.suspend()
        job_id = submit(http, colours(), epochs=1)
        database = Database(f"sqlite:///{tmp_path / 'data' / 'clipcite.db'}")
        with database.write() as session:
            session.get_one(Job, job_id).dispatched_at = database_now(session)
        database.close()
        worker.kill()
        succeeded(http, job_id)


@pytest.mark.slow
def test_a_killed_worker_ends_its_trainer(environment: dict[str, str], tmp_path: Path) -> None:
    """The lease outlasts the test, so only its explicit end lets the job run again."""
    data, hold = tmp_path / "data", Hold(tmp_path / "step")
    hold.at(1)
    environment = {**environment, **hold.environment, "CLIPCITE_LEASE_SECONDS": "3600"}
    with serve(data, environment) as service, service.http as http:
        scratch = data / "tmp"
        of_the_api = {folder.name for folder in scratch.iterdir()}
        job_id = submit(http, colours(), epochs=4, batch_size=4)
        training(http, job_id)
        trainer, worker = service.child("worker.trainer"), service.child("worker")
        left = {folder.name for folder in scratch.iterdir()} - of_the_api
        assert left
        worker.kill()
        wait_for(lambda: not trainer.is_running())
        # The next worker removes its images at the start.
        wait_for(lambda: not left & {folder.name for folder in scratch.iterdir()})
        assert _of_type(http, job_id, "requeued") == []
        database = Database(f"sqlite:///{data / 'clipcite.db'}")
        with database.write() as session:
            session.execute(
                update(Job).where(Job.id == job_id).values(lease_expires_at=database_now(session))
            )
        database.close()
        hold.release()
        succeeded(http, job_id, attempts=2)
        assert [event["data"]["reason"] for event in _of_type(http, job_id, "requeued")] == ["worker_lost"]


def _of_type(http: httpx.Client, job_id: str, type: str) -> list[dict[str, Any]]:
    events = http.get(f"/jobs/{job_id}/events").raise_for_status().json()["data"]
    return [event for event in events if event["type"] == type]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopping_ends_everything_and_the_next_start_goes_on(
    environment: dict[str, str], tmp_path: Path, signum: signal.Signals
) -> None:
    data = tmp_path / "data"
    failpoints = {"PYTHONPATH": f"{FAILPOINTS}:{ROOT}", "PYTHON_CHECKPOINT_SECONDS": "0.5"}
    environment = {**environment, **failpoints}
    with serve(data, environment) as service, service.http as http:
        cut_off = submit(http, colours(), **(LONG | {"epochs": 200}))
        epoch = checkpoint(http, cut_off)
        waiting = submit(http, colours(), epochs=1)
        everything = service.processes()
        assert len(everything) >= 5  # serve, api, worker, Valkey and trainer.
        service.stop(signum)
        assert service.process.returncode == 0
        assert list((data / "tmp").iterdir()) == []
        assert [p for p in everything if is_alive(p)] == []
    with serve(data, environment) as service, service.http as http:
        succeeded(http, cut_off)  # Stopping used no attempt.
        resumed = epochs_of(http, cut_off, "resumed")
        assert len(resumed) == 1
        assert resumed[0] >= epoch
        checkpoints = data / "blobs" / "jobs" / cut_off / "checkpoints"
        wait_for(lambda: not checkpoints.exists())
        assert wait_for_job(http, waiting)["status"] == "succeeded"


@pytest.mark.slow
def test_kill_9_of_the_parent_leaves_nothing_running(environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(data, environment) as service, service.http as http:
        job_id = submit(http, colours(), **(LONG | {"epochs": 200}))
        training(http, job_id)
        everything = service.processes()
        assert service.valkey() in everything
        service.process.kill()
        psutil.wait_procs(everything, timeout=PATIENCE)
        assert [p for p in everything if p.is_running()] == []
    with serve(data, environment) as service, service.http as http:
        assert wait_for_job(http, job_id)["status"] == "succeeded"
