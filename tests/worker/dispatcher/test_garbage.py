"""Garbage collection of the storage: needed files stay, and orphans are deleted slowly."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.orm import Session

from core.settings import Settings
from core.store.db import migrate
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion, Installation, Job, Orphan
from core.store.errors import StorageUnavailable
from core.store.jobs import jobs, orphans
from core.store.jobs.queue import make_celery
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.conftest import postgres_database
from tests.core.store.faulty import faulty
from tests.core.store.samples import OWNER, claimed, new_job, new_model, publish
from tests.core.store.storage.test_blobs import bucket
from worker.dispatcher.__main__ import dispatch
from worker.dispatcher.garbage import Sweep, Sweeper, bind, collect_garbage

ROOT = Path(__file__).parents[3]
WEEK = timedelta(days=7)
GUARD_SECONDS = 600
"""Timeout (seconds). It only guards against hanging."""


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def bound(database: Database, blobs: Blobs) -> Blobs:
    """Return a storage bound to this database."""
    installation.write_if_empty(database, blobs)
    return blobs


def folder_of(blobs: Blobs) -> Path:
    assert blobs._folder is not None
    return blobs._folder


def put(blobs: Blobs, *prefixes: str) -> list[str]:
    """Write a blob, 25 hours old, into each folder. Skips the flushes of `Blobs.put` for speed."""
    old = time.time() - 25 * 3600
    for prefix in prefixes:
        path = folder_of(blobs) / prefix / "0"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (old, old))
    return list(prefixes)


def orphan_jobs(blobs: Blobs, count: int) -> list[str]:
    return put(blobs, *(f"jobs/{new_id('job')}" for _ in range(count)))


def owned_jobs(database: Database, blobs: Blobs, count: int) -> list[str]:
    ids = [new_id("job") for _ in range(count)]
    with database.write() as session:
        first = new_row(session)
        session.execute(insert(Job), [{**first, "id": job_id} for job_id in ids])
    return put(blobs, *(f"jobs/{job_id}" for job_id in ids))


def new_row(session: Session) -> dict[str, object]:
    at = database_now(session)
    return {
        "owner": OWNER,
        "status": "succeeded",
        "config": {},
        "classes": [],
        "warnings": [],
        "attempts": 1,
        "available_at": at,
        "created_at": at,
        "image_bytes": 0,
        "reserved_bytes": 0,
    }


def stored(blobs: Blobs) -> list[str]:
    return sorted([*blobs.folders("jobs"), *blobs.folders("models")])


def marked(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(session.scalars(select(Orphan.prefix)))


def time_passes(database: Database, by: timedelta) -> None:
    """Shift the orphans' dates into the past, relative to the database's clock."""
    with database.write() as session:
        for mark in session.scalars(select(Orphan)):
            mark.first_seen -= by
            if mark.deleted_at is not None:
                mark.deleted_at -= by


# S1: another database


@pytest.mark.parametrize("has_id", [True, False])
def test_a_lost_database_loses_no_file(database: Database, blobs: Blobs, has_id: bool) -> None:
    """`database` is an empty replacement of the lost one."""
    files = orphan_jobs(blobs, 10)
    if has_id:
        blobs.put(installation.KEY, b'{"id": "ins_lost"}')

    def refused() -> None:
        for confirmed in (False, True):
            outcome = collect_garbage(database, blobs, grace=timedelta(0), confirmed=confirmed)
            assert outcome.deleted == []
            assert "clipcite storage adopt" in str(outcome.refusal)
        assert marked(database) == []

    refused()
    job_id = new_job(database)
    files += put(blobs, f"jobs/{job_id}")
    refused()
    old = time.time() - 90 * 86_400
    for path in folder_of(blobs).rglob("*"):
        os.utime(path, (old, old))
    refused()
    assert stored(blobs) == sorted(files)


def test_after_adoption_every_orphan_has_its_grace_period(database: Database, blobs: Blobs) -> None:
    files = orphan_jobs(blobs, 2)
    blobs.put(installation.KEY, b'{"id": "ins_lost"}')
    assert bind(database, blobs) is not None
    installation.adopt(database, blobs)
    assert bind(database, blobs) is None
    assert collect_garbage(database, blobs, grace=WEEK, confirmed=True).orphans == sorted(files)
    time_passes(database, WEEK - timedelta(hours=1))
    assert collect_garbage(database, blobs, grace=WEEK, confirmed=True).deleted == []
    time_passes(database, timedelta(hours=2))
    assert collect_garbage(database, blobs, grace=WEEK, confirmed=True).deleted == sorted(files)


def test_an_upgrade_takes_a_storage_that_is_nearly_all_owned(database: Database, blobs: Blobs) -> None:
    owned_jobs(database, blobs, 8)
    orphan_jobs(blobs, 1)
    assert "less than 90%" in str(bind(database, blobs))
    assert "less than 90%" in str(installation.problem(database, blobs))
    owned_jobs(database, blobs, 1)
    assert bind(database, blobs) is None
    assert installation.problem(database, blobs) is None
    with database.read() as session:
        assert installation.stored_id(blobs) == installation.find(session).id


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"id": 1}', b"\xff"])
def test_an_unreadable_id_counts_as_another_one(database: Database, blobs: Blobs, content: bytes) -> None:
    blobs.put(installation.KEY, content)
    assert bind(database, blobs) is not None
    assert blobs.get(installation.KEY) == content


# S2: a restored backup


DISPATCHER = """
import sys
from pathlib import Path
import core.liveness, worker.dispatcher.garbage
from core.store.storage.blobs import Blobs
core.liveness.TOUCH_SECONDS = 0
if len(sys.argv) > 1:
    worker.dispatcher.garbage.SWEEP_SECONDS = worker.dispatcher.garbage.DELETIONS_SECONDS = 0.01
    begun, go_on = Path(sys.argv[1]), Path(sys.argv[2])
    listed = Blobs.folders
    def folders(self, prefix):
        begun.touch()
        while not go_on.exists():
            worker.dispatcher.garbage.threading.Event().wait(0.05)
        return listed(self, prefix)
    Blobs.folders = folders
from worker.dispatcher.__main__ import main
main()
"""


@contextmanager
def dispatcher(settings: Settings, *arguments: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the real process with other intervals."""
    environment = {
        **os.environ,
        "CLIPCITE_DATA": str(settings.data),
        "CLIPCITE_DATABASE_URL": settings.sqlalchemy_url(),
        "CLIPCITE_BLOB_URL": settings.blobs_url(),
        "CLIPCITE_LIVENESS_FILE": str(settings.liveness_file),
        "CLIPCITE_DISPATCH_SECONDS": "0.05",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", DISPATCHER, *map(str, arguments)], env=environment, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def is_sent(database: Database, job_id: str) -> bool:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=OWNER)
        return job.dispatched_at is not None


@pytest.fixture
def settings(tmp_path: Path, database_url: str, blobs: Blobs) -> Settings:
    return Settings(
        data=tmp_path / "data",
        database_url=database_url,
        blob_url=folder_of(blobs).as_uri(),
        liveness_file=tmp_path / "alive",
    )


def test_a_restored_database_loses_no_newer_model(
    database: Database, bound: Blobs, settings: Settings
) -> None:
    """The backup is two nights old; a model of last night has files only."""
    kept = owned_jobs(database, bound, 12)
    model_id, job_id = new_id("mdl"), new_id("job")
    newer = put(bound, f"models/{model_id}", f"jobs/{job_id}")
    with dispatcher(settings) as process:
        waiting = new_job(database)
        until(lambda: is_sent(database, waiting), process)
    assert marked(database) == []  # Nothing at all within the first hour.
    assert stored(bound) == sorted([*kept, *newer])

    assert collect_garbage(database, bound, grace=WEEK).orphans == sorted(newer)
    time_passes(database, timedelta(days=6))
    assert collect_garbage(database, bound, grace=WEEK, confirmed=True).deleted == []
    with database.write() as session:  # The newer backup, within the grace period.
        row = {**new_row(session), "id": job_id, "status": "queued", "attempts": 0}
        session.execute(insert(Job), [row])
    assert publish(database, claimed(database, job_id), new_model(id=model_id))
    assert collect_garbage(database, bound, grace=WEEK, confirmed=True) == Sweep(folders=14)
    assert marked(database) == []
    time_passes(database, timedelta(days=60))
    assert collect_garbage(database, bound, grace=WEEK, confirmed=True).deleted == []
    assert stored(bound) == sorted([*kept, *newer])


# S3: two installations


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_one_of_two_installations_owns_the_storage(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    if kind == "file":
        blobs = Blobs((tmp_path / "blobs").as_uri())
    else:
        blobs = bucket(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket"))
    first, second = (Database(f"sqlite:///{tmp_path / name / 'clipcite.db'}") for name in ("a", "b"))
    for database in (first, second):
        migrate.upgrade(str(database.engine.url))
        installation.write_if_empty(database, blobs)
    theirs = new_job(second)
    blobs.put(f"jobs/{theirs}/0", b"x")
    for _ in range(20):
        blobs.put(f"jobs/{new_job(first)}/0", b"x")
    refused = collect_garbage(second, blobs, grace=timedelta(0), confirmed=True)
    assert "belongs to another database" in str(refused.refusal)
    assert refused.orphans == refused.deleted == []
    assert len(blobs.folders("jobs")) == 21
    with first.read() as session, second.read() as other:
        assert installation.find(session).id != installation.find(other).id
    for database in (first, second):
        database.close()


# S4: clocks


def test_the_clock_of_the_storage_is_not_used(database: Database, bound: Blobs) -> None:
    """The storage's clock is 25 hours behind, as in `put`, so a running upload looks old."""
    owned_jobs(database, bound, 20)
    job_id = new_id("job")
    put(bound, f"jobs/{job_id}")
    outcome = collect_garbage(database, bound, grace=timedelta(days=1))
    assert (outcome.orphans, outcome.due, outcome.deleted) == ([f"jobs/{job_id}"], [], [])
    with database.write() as session:  # The upload's row is committed.
        session.execute(insert(Job), [{**new_row(session), "id": job_id}])
    assert collect_garbage(database, bound, grace=timedelta(days=1)).orphans == []
    assert marked(database) == []


# S5: limits


def test_many_orphans_need_confirmation(database: Database, bound: Blobs) -> None:
    owned_jobs(database, bound, 800)
    lost = orphan_jobs(bound, 200)
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)
    outcome = collect_garbage(database, bound, grace=WEEK)
    assert (len(outcome.due), outcome.deleted) == (200, [])
    assert "clipcite sweep --yes" in str(outcome.refusal)
    assert collect_garbage(database, bound, grace=WEEK, confirmed=True).deleted == sorted(lost)
    assert len(stored(bound)) == 800


@pytest.mark.parametrize(("folders", "cap"), [(700, 20), (2_590, 25)])
def test_deletions_per_hour_are_limited(database: Database, bound: Blobs, folders: int, cap: int) -> None:
    owned_jobs(database, bound, folders - 60)
    orphan_jobs(bound, 60)
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)
    assert len(collect_garbage(database, bound, grace=WEEK).deleted) == cap
    again = collect_garbage(database, bound, grace=WEEK)
    assert again.deleted == []
    assert "limit" in str(again.refusal)
    time_passes(database, timedelta(hours=1))
    assert len(collect_garbage(database, bound, grace=WEEK).deleted) == cap
    assert len(stored(bound)) == folders - 2 * cap


def test_two_dispatchers_share_the_limit_and_delete_nothing_twice(database: Database, bound: Blobs) -> None:
    owned_jobs(database, bound, 500)
    lost = orphan_jobs(bound, 40)
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)
    gone: list[str] = []
    start = threading.Barrier(2)

    class Counted(Blobs):
        def delete_prefix(self, prefix: str) -> None:
            gone.append(prefix)
            super().delete_prefix(prefix)

    def run() -> None:
        blobs = Counted(folder_of(bound).as_uri())
        start.wait()
        collect_garbage(database, blobs, grace=WEEK)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gone) == len(set(gone)) == 20
    assert set(gone) <= set(lost)


def test_one_round_an_hour_of_all_dispatchers(
    database: Database, bound: Blobs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[object] = []
    monkeypatch.setattr(
        "worker.dispatcher.garbage.collect_garbage", lambda *_, **__: rounds.append(1) or Sweep()
    )
    for _ in range(2):
        Sweeper(settings, database, bound, guard=None)._round()  # type: ignore[arg-type]
    assert len(rounds) == 1
    with database.write() as session:
        session.execute(update(Installation).values(swept_at=database_now(session) - timedelta(hours=1)))
    Sweeper(settings, database, bound, guard=None)._round()  # type: ignore[arg-type]
    assert len(rounds) == 2


# S6: cost


@pytest.mark.slow
def test_a_bucket_is_listed_by_folders_not_by_objects(
    s3_endpoint: str, s3_bucket: str, tmp_path: Path, migrated: Path
) -> None:
    (tmp_path / "clipcite.db").write_bytes(migrated.read_bytes())
    database = Database(f"sqlite:///{tmp_path / 'clipcite.db'}")
    direct = bucket(s3_endpoint, s3_bucket)
    installation.write_if_empty(database, direct)
    many = new_id("job")  # Two pages of objects in one folder.
    for prefix in (f"jobs/{many}", f"models/{new_id('mdl')}"):
        for number in range(1_050 if prefix.startswith("jobs") else 1):
            direct.put(f"{prefix}/{number}", b"x")
    with faulty(s3_endpoint) as faults:
        outcome = collect_garbage(database, bucket(faults.url, s3_bucket), grace=WEEK)
        asked = list(faults.seen)
    assert outcome.folders == 2
    assert len(outcome.orphans) == 2
    # One page each of jobs/, models/ and the root; the storage id twice.
    assert asked.count("GET none") == len(asked) - asked.count("HEAD none") == 5
    database.close()


def statements(database: Database, do: Callable[[], object]) -> int:
    counted: list[str] = []

    def count(*given: object) -> None:
        counted.append(str(given[2]))

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        do()
    finally:
        event.remove(database.engine, "before_cursor_execute", count)
    return sum(statement.startswith("SELECT jobs.id, jobs.status") for statement in counted)


def test_owners_are_looked_up_by_the_page(database: Database, bound: Blobs) -> None:
    owned_jobs(database, bound, 1_200)
    assert statements(database, lambda: collect_garbage(database, bound, grace=WEEK)) == 3


def test_dispatching_goes_on_while_a_slow_storage_is_swept(
    database: Database, bound: Blobs, settings: Settings, tmp_path: Path
) -> None:
    put(bound, f"jobs/{new_id('job')}")
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    assert settings.liveness_file is not None
    with dispatcher(settings, begun, go_on) as process:
        until(begun.exists, process)  # The listing hangs from here.
        for _ in range(3):
            job_id = new_job(database)
            until(lambda: is_sent(database, job_id), process)  # noqa: B023
            with database.write() as session:
                jobs.request_cancel(session, job_id, owner=OWNER)
            settings.liveness_file.unlink(missing_ok=True)
            until(settings.liveness_file.exists, process)
        assert marked(database) == []
        go_on.touch()
        until(lambda: len(marked(database)) == 1, process)


MEMORY = """
import resource, sys
from datetime import timedelta
from core.store.storage.blobs import Blobs
from core.store.db.session import Database, database_now
from worker.dispatcher.garbage import collect_garbage
database, blobs = Database(sys.argv[1]), Blobs(sys.argv[2])
with database.read() as session:
    database_now(session)
blobs.folders("models")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(collect_garbage(database, blobs, grace=timedelta(days=7)).orphans), before,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_ten_thousand_jobs_take_little_memory(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "clipcite.db").write_bytes(migrated.read_bytes())
    url = f"sqlite:///{tmp_path / 'clipcite.db'}"
    blobs = Blobs((tmp_path / "blobs").as_uri())
    database = Database(url)
    installation.write_if_empty(database, blobs)
    database.close()
    orphan_jobs(blobs, 10_000)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, url, folder_of(blobs).as_uri()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, before, after = map(int, done.stdout.split())
    assert found == 10_000
    assert after - before < 50_000  # kB


# other cases


def test_foreign_files_are_never_deleted(database: Database, bound: Blobs) -> None:
    owned_jobs(database, bound, 30)
    strange = ["jobs/x", "jobs/backup", "backups/job_1", "models/x", "probe-1", f"x/{new_id('job')}"]
    put(bound, *strange)
    put(bound, "probe-0123456789abcdef")
    collect_garbage(database, bound, grace=timedelta(0), confirmed=True)
    for folder in strange:
        assert bound.list(folder)
    assert bound.list("probe-0123456789abcdef") == []


def test_a_deletion_that_was_cut_off_is_repeated(
    database: Database, bound: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned_jobs(database, bound, 30)
    (lost,) = orphan_jobs(bound, 1)
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)

    def fails(prefix: str) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(bound, "delete_prefix", fails)
        with pytest.raises(StorageUnavailable):
            collect_garbage(database, bound, grace=WEEK)
    # Another process may still write to it.
    assert collect_garbage(database, bound, grace=WEEK).deleted == []
    time_passes(database, timedelta(hours=2))
    assert collect_garbage(database, bound, grace=WEEK).deleted == [lost]
    time_passes(database, timedelta(hours=2))
    collect_garbage(database, bound, grace=WEEK)
    assert marked(database) == []


def test_the_owner_is_looked_up_again_before_a_deletion(
    database: Database, bound: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row appears between the lookup of all owners and the deletion."""
    owned_jobs(database, bound, 30)
    job_id = new_id("job")
    put(bound, f"jobs/{job_id}")
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)
    look = orphans.all_marks

    def restored(session: Session) -> list[Orphan]:
        marks = look(session)
        monkeypatch.setattr(orphans, "all_marks", late)
        return marks

    def late(session: Session) -> list[Orphan]:
        marks = look(session)
        threading.Thread(target=add_row).run()
        return marks

    def add_row() -> None:
        with database.write() as session:
            session.execute(insert(Job), [{**new_row(session), "id": job_id}])

    monkeypatch.setattr(orphans, "all_marks", restored)
    outcome = collect_garbage(database, bound, grace=WEEK)
    assert outcome.due == [f"jobs/{job_id}"]
    assert outcome.deleted == []
    assert marked(database) == []
    assert bound.list(f"jobs/{job_id}")


def test_reporting_and_a_dry_run_delete_nothing(database: Database, bound: Blobs) -> None:
    owned_jobs(database, bound, 30)
    (lost,) = orphan_jobs(bound, 1)
    assert collect_garbage(database, bound, grace=timedelta(0), dry_run=True).orphans == [lost]
    assert marked(database) == []
    assert collect_garbage(database, bound, grace=timedelta(0), delete=False).due == [lost]
    assert marked(database) == [lost]
    assert stored(bound).count(lost) == 1


@pytest.mark.parametrize(("mode", "left"), [("on", 0), ("report", 1), ("off", 1)])
def test_the_setting_is_respected(
    database: Database,
    bound: Blobs,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    left: int,
) -> None:
    owned_jobs(database, bound, 30)
    (lost,) = orphan_jobs(bound, 1)
    collect_garbage(database, bound, grace=WEEK)
    time_passes(database, WEEK)
    monkeypatch.setattr("worker.dispatcher.garbage.SWEEP_SECONDS", 0.0)
    monkeypatch.setattr("worker.dispatcher.garbage.DELETIONS_SECONDS", 0.001)
    guarded = threading.Semaphore(0)

    @contextmanager
    def guard() -> Iterator[None]:
        yield
        guarded.release()

    sweeper = Sweeper(settings.model_copy(update={"sweep": mode}), database, bound, guard=guard)
    sweeper.start()
    for _ in range(17):  # binding the storage, then deletions, six kinds of retention and a sweep
        assert guarded.acquire(timeout=GUARD_SECONDS)
    sweeper.stop(GUARD_SECONDS)
    assert not sweeper._thread.is_alive()
    assert len(bound.list(lost)) == left


def test_a_storage_that_hangs_in_a_deletion_holds_only_the_sweepers_thread(
    database: Database, bound: Blobs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_celery(settings)
    gone, other = new_job(database), new_job(database)
    put(bound, f"jobs/{gone}")
    with database.write() as session:
        jobs.delete(session, gone, owner=OWNER)  # The process died here.
        session.execute(update(Deletion).values(created_at=database_now(session) - WEEK))
    hanging, released = threading.Event(), threading.Event()
    delete = Blobs.delete_prefix

    def hang(blobs: Blobs, prefix: str) -> None:
        hanging.set()
        assert released.wait(GUARD_SECONDS)
        delete(blobs, prefix)

    monkeypatch.setattr(Blobs, "delete_prefix", hang)
    sweeper = Sweeper(settings, database, bound, guard=nullcontext)
    sweeper.start()
    assert hanging.wait(GUARD_SECONDS)
    assert dispatch(settings, database, app) == [other]
    released.set()
    sweeper.stop(GUARD_SECONDS)
    assert not sweeper._thread.is_alive()
    assert bound.list(f"jobs/{gone}") == []


def test_ids_differ_between_installations(empty_database_url: str, postgres_url: str) -> None:
    migrate.upgrade(empty_database_url)
    with postgres_database(postgres_url) as url:
        migrate.upgrade(url)
        ids = set()
        for one in (empty_database_url, url):
            database = Database(one)
            with database.read() as session:
                assert session.scalar(select(func.count()).select_from(Installation)) == 1
                ids.add(installation.find(session).id)
            database.close()
    assert len(ids) == 2
