"""One job through a worker: its row, its trainer and the warm trainer."""

import json
import os
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from core.store.db.tables import JobEvent
from core.store.registry import models
from tests.api import crafted
from tests.core.store.samples import job_of
from tests.service.running import commands, wait_for
from tests.worker.conftest import MakeWorker
from tests.worker.queued import queue_images, queue_job


def trainers() -> list[int]:
    """Return the trainers of this process, without those of shared services."""
    found = commands(os.getpid(), recursive=False).items()
    return [process.pid for process, command in found if command[1:3] == ["-m", "worker.trainer"]]


@pytest.mark.slow
def test_a_warm_trainer_that_was_killed_costs_the_job_no_attempt(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker()
    killed = worker.warm_trainer.pid
    assert killed is not None
    wait_for(lambda: trainers() == [killed])
    psutil.Process(killed).kill()
    job_id = queue_job(worker, tmp_path)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.attempts) == ("succeeded", 1), job.error_detail
    # The next trainer waits.
    assert worker.warm_trainer.pid not in {None, killed}
    wait_for(lambda: trainers() == [worker.warm_trainer.pid])  # It has no command before its exec.


@pytest.mark.slow
def test_the_report_is_stored_beside_the_images(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(warm_trainer=False)
    job_id = queue_job(worker, tmp_path, count=10)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert job.status == "succeeded", job.error_detail
    assert job.model_id is not None
    assert job.report_key is not None
    stored = json.loads(worker.blobs.get(job.report_key))
    assert stored["measured_on"]["source"] == "cross_validation"
    assert job.metrics["measured_on"] == {
        "source": "cross_validation",
        "images": 10,
        "trained_images": 10,
        "fold_models": 2,
    }
    assert job.metrics["verdict"] == stored["verdict"]
    with worker.database.read() as session:
        assert models.get(session, job.model_id, owner=job.owner).alpha == stored["alpha"] == 0.5
    assert {image["position"] for image in stored["mistakes"]} <= set(range(10))


def test_an_image_that_changed_in_the_storage_is_not_trained_on(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker(warm_trainer=False, max_attempts=1)
    job_id = queue_job(worker, tmp_path)
    worker.blobs.put("jobs/x/2", b"other bytes")
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.error_code) == ("failed", "blob_damaged")
    assert "backup" in str(job.error_detail)


def test_with_an_empty_storage_in_the_place_of_its_own_a_job_waits(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker(warm_trainer=False, lease_seconds=1)
    job_id = queue_job(worker, tmp_path)
    worker.blobs.delete_prefix("jobs")
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    with worker.database.read() as session:
        requeued = session.scalars(select(JobEvent).where(JobEvent.type == "requeued")).one()
    assert requeued.data["reason"] == "storage_unavailable"


@pytest.mark.slow
def test_an_image_above_the_limit_fails_its_training(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(warm_trainer=False, max_attempts=1, max_image_pixels=1_000_000)
    job_id = queue_images(worker, tmp_path, [crafted.jpeg(), crafted.jpeg(1), crafted.pixel_bomb(1_001)])
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.attempts) == ("failed", 1)
    assert "1,001 x 1,001 pixels" in str(job.error_detail)
