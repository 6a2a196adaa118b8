"""From trained files to a model and its evaluation: damage, lost answers, a full disk and interruptions."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from core.clip.weights.manifest import WEIGHTS
from core.store.db.tables import Job, JobEvent, Model
from core.store.errors import DatabaseUnavailable, StorageFull, StorageUnavailable
from core.store.jobs import lifecycle
from core.store.registry import models
from tests.core.store.samples import OWNER, events_of, expire, job_of, let_lease_expire
from tests.worker.conftest import MakeWorker
from tests.worker.queued import queue_job
from worker import job_runner, publication
from worker.job_runner import JobRunner
from worker.lease import Lease
from worker.trainer.protocol import Done, Message, Trained
from worker.trainer.supervisor import TrainerDied, TrainerFailed, run_trainer

pytestmark = pytest.mark.slow
OnMessage = Callable[[Message], None]


@pytest.fixture
def worker(make_worker: MakeWorker) -> JobRunner:
    return make_worker(warm_trainer=False, lease_seconds=5)


def model_count(worker: JobRunner) -> int:
    with worker.database.read() as session:
        return session.scalar(select(func.count()).select_from(Model)) or 0


def test_weights_that_changed_on_the_disk_are_not_published(
    worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(folder: Path, *, on_message: OnMessage, **given: Any) -> Done:
        def heard(message: Message) -> None:
            if isinstance(message, Trained):
                content = bytearray((folder / WEIGHTS).read_bytes())
                content[-1] ^= 1
                (folder / WEIGHTS).write_bytes(content)
            on_message(message)

        return run_trainer(folder, on_message=heard, **given)

    monkeypatch.setattr(job_runner, "run_trainer", damage)
    job_id = queue_job(worker, tmp_path)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.model_id) == ("queued", None)
    assert model_count(worker) == 0
    assert list(worker.blobs.list("models")) == []


@pytest.mark.parametrize("commit", ["publish", "finish"])
def test_files_stay_if_the_commit_may_have_succeeded(
    worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: str
) -> None:
    """The database commits, and its response is lost. Rows and files must still match."""
    write: Callable[..., Any] = Lease.write
    job_id = queue_job(worker, tmp_path)

    def commit_without_an_answer(self: Lease, *given: Any, **named: Any) -> object:
        done = write(self, *given, **named)
        job = job_of(self.database, job_id)
        if job.model_id if commit == "publish" else job.status == "succeeded":
            monkeypatch.setattr(Lease, "write", write)
            raise DatabaseUnavailable("The database can't be reached.")
        return done

    monkeypatch.setattr(Lease, "write", commit_without_an_answer)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert job.status == ("queued" if commit == "publish" else "succeeded")
    worker.run(job_id)  # Only an evaluation, if anything.
    job = job_of(worker.database, job_id)
    assert (job.status, model_count(worker)) == ("succeeded", 1)
    with worker.database.read() as session:
        row = models.get(session, str(job.model_id), owner=job.owner)
    assert row.metrics == job.metrics
    for key in (row.weights_key, row.manifest_key, str(job.report_key)):
        assert worker.blobs.get(key)


@pytest.mark.parametrize(
    ("error", "step"), [(StorageFull, "the weights are stored"), (StorageUnavailable, "the images are read")]
)
def test_a_full_or_absent_storage_costs_no_attempt(
    worker: JobRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[StorageUnavailable],
    step: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        worker.draining.set()  # Ends the worker's pause, not the attempt.
        raise error("There is no answer from 10.0.0.7.", "There is no answer from the storage.")

    worker.settings.lease_seconds = 600
    job_id = queue_job(worker, tmp_path)
    if step == "the images are read":
        monkeypatch.setattr(worker.blobs, "fetch", fail)
    else:
        monkeypatch.setattr(publication, "store_weights", fail)
    worker.run(job_id)
    job = job_of(worker.database, job_id)
    assert (job.status, job.attempts, model_count(worker)) == ("queued", 0, 0)
    assert list(worker.blobs.list("models")) == []
    with worker.database.read() as session:
        requeued = session.scalars(select(JobEvent).where(JobEvent.type == "requeued")).one()
    assert requeued.data == {"reason": error.code, "detail": "There is no answer from the storage."}
    assert "10.0.0.7" in caplog.text


# --- between the two commits: the model is published, and its evaluation is under way ---


class Killed(BaseException):
    """The end of this worker's process, as far as a test can tell."""


Interrupt = Callable[[JobRunner, str], None]


def kill(worker: JobRunner, job_id: str) -> None:
    raise Killed


def trainer_dies(worker: JobRunner, job_id: str) -> None:
    raise TrainerDied("trainer_died", "The training process was killed.")


def out_of_memory(worker: JobRunner, job_id: str) -> None:
    raise TrainerFailed("out_of_memory", "The device ran out of memory.")


def cancel(worker: JobRunner, job_id: str) -> None:
    with worker.database.write() as session:
        lifecycle.request_cancel(session, job_id, owner=OWNER)


def drain(worker: JobRunner, job_id: str) -> None:
    worker.draining.set()


BEFORE_MODEL, BEFORE_EVALUATION, BEFORE_END = "before the model", "before the evaluation", "before the end"


@pytest.fixture
def interrupted(worker: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Return a function that runs a job which is interrupted once, by default right after the publication."""

    def run(interrupt: Interrupt, moment: str = BEFORE_EVALUATION) -> Job:
        job_id = queue_job(worker, tmp_path, count=10)

        def interrupting(
            folder: Path, *, on_message: OnMessage, should_stop: Callable[[], bool], **given: Any
        ) -> Done:
            def now() -> None:
                monkeypatch.setattr(job_runner, "run_trainer", run_trainer)
                assert job_of(worker.database, job_id).status == "running"
                interrupt(worker, job_id)
                while not should_stop():
                    time.sleep(0.01)

            def heard(message: Message) -> None:
                is_trained = isinstance(message, Trained)
                if is_trained and moment == BEFORE_MODEL:
                    now()
                on_message(message)
                if is_trained and moment == BEFORE_EVALUATION:
                    now()

            result = run_trainer(folder, on_message=heard, should_stop=should_stop, **given)
            if moment == BEFORE_END:
                now()
            return result

        monkeypatch.setattr(job_runner, "run_trainer", interrupting)
        with suppress(Killed):
            worker.run(job_id)
        return job_of(worker.database, job_id)

    return run


def test_a_job_killed_before_its_model_trains_again(
    worker: JobRunner, interrupted: Callable[..., Job]
) -> None:
    job = interrupted(kill, BEFORE_MODEL)
    let_lease_expire(worker.database, job.id)
    expire(worker.database)
    job = job_of(worker.database, job.id)
    assert (job.status, job.attempts, job.model_id, model_count(worker)) == ("queued", 1, None, 0)
    assert list(worker.blobs.list("models")) == []
    worker.run(job.id)
    assert (job_of(worker.database, job.id).status, model_count(worker)) == ("succeeded", 1)


@pytest.mark.parametrize("interrupt", [cancel, drain])
def test_an_interrupt_after_the_evaluation_is_too_late(
    worker: JobRunner, interrupted: Callable[..., Job], interrupt: Interrupt
) -> None:
    job = interrupted(interrupt, BEFORE_END)
    assert (job.status, job.warnings, model_count(worker)) == ("succeeded", [], 1)
    assert (job.metrics or {})["measured_on"]["source"] == "cross_validation"
    assert worker.blobs.get(str(job.report_key))


@pytest.mark.parametrize(
    ("interrupt", "moment", "spent"),
    [
        (kill, BEFORE_EVALUATION, 1),
        (kill, BEFORE_END, 1),
        (trainer_dies, BEFORE_EVALUATION, 1),
        (drain, BEFORE_EVALUATION, 0),
        (drain, BEFORE_MODEL, 0),  # The training has ended, so its model is not thrown away.
    ],
)
def test_an_interrupted_evaluation_is_repeated_without_a_training(
    worker: JobRunner, interrupted: Callable[..., Job], interrupt: Interrupt, moment: str, spent: int
) -> None:
    job = interrupted(interrupt, moment)
    if interrupt is kill:
        assert job.status == "running"
        let_lease_expire(worker.database, job.id)
        expire(worker.database)
        job = job_of(worker.database, job.id)
    assert (job.status, job.attempts, model_count(worker)) == ("queued", spent, 1)
    before = events_of(worker.database, job.id)[-1].seq

    worker.draining.clear()
    worker.run(job.id)
    ended = job_of(worker.database, job.id)
    assert (ended.status, ended.attempts, ended.warnings) == ("succeeded", spent + 1, [])
    assert (ended.model_id, model_count(worker)) == (job.model_id, 1)
    assert (ended.metrics or {})["measured_on"]["source"] == "cross_validation"
    assert worker.blobs.get(str(ended.report_key))
    later = events_of(worker.database, job.id, before)
    assert [e.type for e in later if e.type != "progress"] == ["started", "stage", "succeeded"]
    assert {e.data.get("stage") for e in later if e.type in {"stage", "progress"}} == {"evaluating"}


@pytest.mark.parametrize(
    ("interrupt", "attempts", "code"),
    [
        (cancel, 3, "evaluation_cancelled"),
        (out_of_memory, 3, "evaluation_failed"),
        (trainer_dies, 1, "evaluation_failed"),
    ],
)
def test_a_model_stays_without_its_evaluation(
    worker: JobRunner, interrupted: Callable[..., Job], interrupt: Interrupt, attempts: int, code: str
) -> None:
    worker.settings.max_attempts = attempts
    job = interrupted(interrupt)
    assert (job.status, job.error_code, model_count(worker)) == ("succeeded", None, 1)
    assert [warning["code"] for warning in job.warnings] == [code]
    assert (job.metrics or {})["verdict"] == "not_evaluated"
    assert (job.metrics or {})["measured_on"]["trained_images"] == 10
    with worker.database.read() as session:
        assert models.get(session, str(job.model_id), owner=job.owner).metrics == job.metrics


def test_a_model_deleted_before_its_evaluation(worker: JobRunner, interrupted: Callable[..., Job]) -> None:
    job = interrupted(drain)
    with worker.database.write() as session:
        models.delete(session, str(job.model_id), owner=OWNER)
    worker.draining.clear()
    worker.run(job.id)
    job = job_of(worker.database, job.id)
    assert (job.status, job.warnings[0]["code"]) == ("succeeded", "evaluation_failed")
    assert "The model was deleted before its evaluation ended." in job.warnings[0]["detail"]
