"""From trained files to a model: damage, a lost database answer and a full disk on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.clip.weights.manifest import WEIGHTS
from core.store.db.tables import Model
from core.store.errors import DatabaseUnavailable, StorageFull
from core.store.jobs import jobs
from core.store.registry import models
from tests.core.store.samples import job_of
from tests.worker.test_job_runner import MakeWorker, make_worker, queue_job  # noqa: F401
from worker import job_runner
from worker.job_runner import JobRunner
from worker.trainer.supervisor import run_trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(make_worker: MakeWorker) -> JobRunner:  # noqa: F811
    return make_worker(warm_trainer=False)


def model_count(worker: JobRunner) -> int:
    with worker.database.read() as session:
        return session.scalar(select(func.count()).select_from(Model)) or 0


def test_weights_that_changed_on_the_disk_are_not_published(
    worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(folder: Path, **given: Any) -> dict[str, Any]:
        result = run_trainer(folder, **given)
        content = bytearray((folder / WEIGHTS).read_bytes())
        content[-1] ^= 1
        (folder / WEIGHTS).write_bytes(content)
        return result

    monkeypatch.setattr(job_runner, "run_trainer", damage)
    job_id = queue_job(worker, tmp_path)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.model_id) == ("queued", None)
    assert model_count(worker) == 0
    assert list(worker.blobs.list("models")) == []


def test_files_stay_if_the_commit_may_have_succeeded(
    worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database commits and its answer is lost. Rows and files must still belong together."""
    insist: Callable[[JobRunner, Callable[[Session], object]], object] = JobRunner._retry_transaction

    def commit_without_an_answer(self: JobRunner, transition: Callable[[Session], object]) -> object:
        done = insist(self, transition)
        if model_count(self):
            monkeypatch.setattr(JobRunner, "_retry_transaction", insist)
            raise DatabaseUnavailable("The database can't be reached.")
        return done

    monkeypatch.setattr(JobRunner, "_retry_transaction", commit_without_an_answer)
    job_id = queue_job(worker, tmp_path)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, model_count(worker)) == ("succeeded", 1)
    with worker.database.read() as session:
        row = models.get(session, str(job.model_id), owner=job.owner)
    for key in (row.weights_key, row.manifest_key, jobs.report_of(job_id, row.id)):
        assert worker.blobs.get(key)


def test_a_full_storage_costs_no_attempt(
    worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull("The storage is full. Make room there.")

    monkeypatch.setattr(job_runner, "store_weights", full)
    job_id = queue_job(worker, tmp_path)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.attempts, model_count(worker)) == ("queued", 0, 0)
    assert list(worker.blobs.list("models")) == []
