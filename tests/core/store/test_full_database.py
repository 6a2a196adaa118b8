"""SQLite on a full disk."""

from pathlib import Path

import pytest
from sqlalchemy import select

from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import Job
from core.store.errors import DatabaseFull
from tests.core.store.samples import new_job
from tests.disk import fill, small_disk


@pytest.mark.slow
@pytest.mark.mounts
def test_acknowledged_writes_stay_and_writing_resumes_with_free_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        url = f"sqlite:///{disk / 'clipcite.db'}"
        migrate.upgrade(url)
        database = Database(url)
        acknowledged = [new_job(database)]
        ballast = fill(disk)

        def write_on() -> None:
            while True:  # SQLite's write-ahead log has some room left.
                acknowledged.append(new_job(database, config={"prompts": "x" * 20_000}))

        with pytest.raises(DatabaseFull, match="Free some space") as refused:
            write_on()
        assert (refused.value.status, refused.value.code) == (507, "storage_full")
        assert ids(database) == acknowledged
        ballast.unlink()
        acknowledged.append(new_job(database))
        database.close()
        again = Database(url)
        assert ids(again) == acknowledged
        again.close()


def ids(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Job.id).order_by(Job.id)))
