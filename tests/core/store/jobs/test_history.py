"""Durations of recent jobs."""

from typing import Any

from core.store.db.session import Database
from core.store.jobs import stats
from tests.core.store.samples import claimed, new_job, publish


def end_job(database: Database, backbone: str, **settings: Any) -> None:
    config = {"backbone": backbone, "image_size": None, **settings}
    assert publish(database, claimed(database, new_job(database, config=config)))


def test_only_jobs_of_the_same_image_size_and_without_large_settings_are_a_basis(database: Database) -> None:
    def found(image_size: int | None) -> list[Any]:
        with database.read() as session:
            jobs = stats.recent_successes(session, backbone="starter", image_size=image_size)
        return [job.config.get("epochs") for job in jobs]

    end_job(database, "starter", epochs=1)
    end_job(database, "starter", epochs=2, image_size=160)
    end_job(database, "starter", epochs=3, prompts={"red fox": ["x" * 300_000]})
    end_job(database, "starter", epochs=4, image_size=160)
    assert (found(None), found(160), found(224)) == ([1], [4, 2], [])
