"""Checkpoints between the trainer's folder and the storage.

The trainer is a stand-in that writes files with valid names. tests/core/clip/training/test_checkpoint.py
tests their contents.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from clipcite.types.images import Image
from core.clip.training.checkpoint_files import checkpoint_name, epoch_of, is_whole
from core.store.db.session import Database
from core.store.db.tables import Deletion
from core.store.errors import StorageFull
from core.store.jobs import jobs, lifecycle
from core.store.jobs.jobs import checkpoints_of
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, events_of, job_of, new_job, types_of
from tests.service.running import PATIENCE, wait_for
from tests.worker.conftest import MakeWorker, StandIn
from worker.checkpoints import CheckpointUploader
from worker.dispatcher.cleanup import finish_deletions
from worker.job_runner import JobRunner

JOB = "job_1"

WRITES = """
import hashlib
from pathlib import Path
sys.path.append(REPOSITORY)
from core.clip.training.checkpoint_files import checkpoint_name, epoch_of, newest_first

folder = Path(job())
checkpoints = folder / "checkpoints"
say(type="phase", phase="steps")
found = [epoch_of(path.name) for path in newest_first(checkpoints)]
if found:
    say(type="resumed", epoch=found[0])
first = found[0] if found else 0

def write(epoch):
    content = b"state %d" % epoch
    path = checkpoints / checkpoint_name(epoch, hashlib.sha256(content).hexdigest())
    path.write_bytes(content)
    say(type="checkpoint", epoch=epoch)
"""
GOES_ON = WRITES + "for epoch in range(first + 1, first + 4): write(epoch)\ntime.sleep(600)\n"
DIES = WRITES + "write(first + 1)\nos.kill(os.getpid(), 9)\n"
FAILS = WRITES + "write(first + 1)\nsay(type='failed', code='training_diverged', detail='Lower it.')\n"
"""A trainer that fails permanently."""


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "job" / "checkpoints"


def content(epoch: int) -> bytes:
    return b"state %d" % epoch


def write(folder: Path, epoch: int) -> str:
    name = checkpoint_name(epoch, hashlib.sha256(content(epoch)).hexdigest())
    (folder / name).write_bytes(content(epoch))
    return name


def stored(blobs: Blobs, job_id: str = JOB) -> list[int | None]:
    return sorted(epoch_of(blob.key.rpartition("/")[2]) for blob in blobs.list(checkpoints_of(job_id)))


def recorder(database: Database, recorded: list[int]) -> Callable[[str, int], bool]:
    """Return a function that keeps a stored checkpoint, as a worker with a lease does."""

    def record(folder: str, epoch: int) -> bool:
        with database.write() as session:
            deletions.keep(session, folder)
        recorded.append(epoch)
        return True

    return record


def test_the_trainers_checkpoints_are_stored_and_two_are_kept(
    database: Database, blobs: Blobs, folder: Path
) -> None:
    folder.parent.mkdir()
    recorded: list[int] = []
    record = recorder(database, recorded)

    with CheckpointUploader(database, blobs, JOB, folder, record) as keeper:
        assert keeper.fetch() == 0
        for epoch in (1, 2, 3):
            write(folder, epoch)
            keeper.notify()
            wait_for(lambda e=epoch: e in recorded)
        write(folder, 4)  # The trainer dies before its next message.
        keeper.flush(PATIENCE)
    assert recorded == [1, 2, 3, 4]
    assert stored(blobs) == [3, 4]


def test_the_next_attempt_gets_the_newest_that_is_whole(
    database: Database, blobs: Blobs, folder: Path
) -> None:
    folder.parent.mkdir()
    (folder.parent / "made").mkdir()
    for epoch in (7, 12):
        name = write(folder.parent / "made", epoch)
        blobs.put(f"{checkpoints_of(JOB)}/{name}", content(epoch)[: 4 if epoch == 12 else None])
    recorded: list[int] = []
    record = recorder(database, recorded)

    with CheckpointUploader(database, blobs, JOB, folder, record) as keeper:
        assert keeper.fetch() == 1
        assert [epoch_of(path.name) for path in folder.iterdir()] == [7]
        assert all(is_whole(path) for path in folder.iterdir())
        assert stored(blobs) == [7]
        write(folder, 12)  # The same checkpoint again, intact.
        keeper.flush(PATIENCE)
    assert recorded == [12]  # The fetched checkpoint is already stored.
    assert stored(blobs) == [7, 12]
    newest = next(b.key for b in blobs.list(checkpoints_of(JOB)) if "0012-" in b.key)
    assert blobs.get(newest) == content(12)


def test_a_lost_lease_leaves_no_checkpoint(database: Database, blobs: Blobs, folder: Path) -> None:
    folder.parent.mkdir()
    with CheckpointUploader(database, blobs, JOB, folder, lambda stored, epoch: False) as keeper:
        keeper.fetch()
        write(folder, 1)
        keeper.flush(PATIENCE)
    assert stored(blobs) == []


def test_a_lost_lease_leaves_the_checkpoint_of_the_next_attempt(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    """On a CPU, both attempts write the same bytes under the same name."""
    lost, held = tmp_path / "lost", tmp_path / "held"
    with (
        CheckpointUploader(database, blobs, JOB, lost, lambda stored, epoch: False) as woken,
        CheckpointUploader(database, blobs, JOB, held, recorder(database, [])) as keeper,
    ):
        woken.fetch()
        keeper.fetch()
        assert write(lost, 1) == write(held, 1)
        keeper.flush(PATIENCE)
        woken.flush(PATIENCE)
    assert stored(blobs) == [1]


def test_a_checkpoint_stored_during_the_jobs_end_is_deleted(
    database: Database, folder: Path, tmp_path: Path
) -> None:
    folder.parent.mkdir()
    begun, go_on, over = (threading.Event() for _ in range(3))

    class Slow(Blobs):
        def put(self, key: str, data: bytes | Path) -> None:
            begun.set()
            try:
                assert go_on.wait(PATIENCE)
                super().put(key, data)
            finally:
                over.set()

    slow = Slow((tmp_path / "blobs").as_uri())
    with CheckpointUploader(database, slow, JOB, folder, recorder(database, [])) as keeper:
        keeper.fetch()
        write(folder, 1)
        keeper.notify()
        assert begun.wait(PATIENCE)
        keeper.flush(0.1)  # A slow storage blocks nothing.
        assert not over.is_set()
        keeper.discard()
        go_on.set()
        keeper.flush(PATIENCE)
    assert stored(slow) == []


def test_a_full_storage_does_not_end_the_training(
    database: Database, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()

    class Full(Blobs):
        full = True

        def put(self, key: str, data: bytes | Path) -> None:
            if self.full:
                raise StorageFull("The storage is full.")
            super().put(key, data)

    full = Full((tmp_path / "blobs").as_uri())
    with CheckpointUploader(database, full, JOB, folder, recorder(database, [])) as keeper:
        keeper.fetch()
        write(folder, 1)
        keeper.notify()
        wait_for(lambda: "storage is full" in caplog.text)
        full.full = False
        write(folder, 2)
        keeper.flush(PATIENCE)
    assert stored(full) == [2]


# --- with a worker ---


GIVEN: dict[str, Any] = {"warm_trainer": False, "lease_seconds": 5, "max_attempts": 5}


@pytest.fixture
def trainer(stand_in: StandIn) -> StandIn:
    repository = str(Path(__file__).parents[2])
    return lambda script: stand_in(f"REPOSITORY = {repository!r}\n{script}")


def queue_job(worker: JobRunner) -> str:
    content = b"an image"
    worker.blobs.put("jobs/x/1", content)
    digest = hashlib.sha256(content).hexdigest()
    image = Image("jobs/x/1", "a", file_name="a.png", sha256=digest, bytes=len(content))
    return new_job(worker.database, images=[image])


def epochs_of(worker: JobRunner, job_id: str, event: str) -> list[int]:
    return [e.data["epoch"] for e in events_of(worker.database, job_id) if e.type == event]


def test_a_drain_a_death_and_a_torn_file_then_the_end(make_worker: MakeWorker, trainer: StandIn) -> None:
    first = make_worker(**GIVEN)
    job_id = queue_job(first)

    # A stopping worker requeues the job: it uses no attempt, and the state is stored.
    trainer(GOES_ON)
    running = threading.Thread(target=first.run, args=(job_id,))
    running.start()
    wait_for(lambda: 3 in epochs_of(first, job_id, "checkpoint"))
    first.draining.set()
    running.join(PATIENCE)
    job = job_of(first.database, job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    assert 3 in stored(first.blobs, job_id)

    # Another worker resumes from there. Its trainer dies just after writing its state.
    second = make_worker(**GIVEN)
    trainer(DIES)
    second.run(job_id)
    job = job_of(second.database, job_id)
    assert (job.status, job.attempts) == ("queued", 1)
    assert epochs_of(second, job_id, "resumed") == [3]
    assert stored(second.blobs, job_id) == [3, 4]

    # The newest is damaged, so the previous one is used. The job fails, and its checkpoints are deleted.
    newest = next(b.key for b in second.blobs.list(checkpoints_of(job_id)) if "/0004-" in b.key)
    second.blobs.put(newest, b"sta")
    trainer(FAILS)
    second.run(job_id)
    job = job_of(second.database, job_id)
    assert (job.status, job.attempts, job.error_code) == ("failed", 2, "training_diverged")
    assert epochs_of(second, job_id, "resumed") == [3, 3]
    assert [warning["code"] for warning in job.warnings] == ["checkpoint_damaged"]
    assert second.blobs.list(checkpoints_of(job_id)) == []
    with second.database.read() as session:
        assert session.scalars(select(Deletion.prefix)).all() == []
    types = types_of(second.database, job_id)
    assert types.count("requeued") == 2
    assert types[-1] == "failed"


@pytest.mark.parametrize("end", ["cancelled", "deleted"])
def test_a_job_that_ends_while_requeued_leaves_no_checkpoint(
    make_worker: MakeWorker, trainer: StandIn, end: str
) -> None:
    worker = make_worker(**GIVEN)
    job_id = queue_job(worker)
    trainer(DIES)
    worker.run(job_id)
    assert stored(worker.blobs, job_id) == [1]
    with worker.database.write() as session:
        if end == "cancelled":
            lifecycle.request_cancel(session, job_id, owner=OWNER)
        else:
            lifecycle.delete(session, job_id, owner=OWNER)
    gone = checkpoints_of(job_id) if end == "cancelled" else jobs.blobs_of(job_id)
    assert finish_deletions(worker.database, worker.blobs) == [gone]
    assert stored(worker.blobs, job_id) == []
