"""Durations of recent jobs."""

from typing import Any

import pytest

from core.store.db.session import Database
from core.store.jobs import stats
from tests.core.store.samples import claimed, new_job, publish


def end_job(database: Database, backbone: str, **settings: Any) -> None:
    config = {"backbone": backbone, "image_size": None, **settings}
    assert publish(database, claimed(database, new_job(database, config=config)))


def test_a_limited_number_of_jobs_is_searched_for_a_backbone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(backbone: str) -> int:
        with database.read() as session:
            return len(stats.recent_successes(session, backbone=backbone, image_size=None))

    end_job(database, "rare")
    for _ in range(3):
        end_job(database, "starter")
    new_job(database, config={"backbone": "rare", "image_size": None})
    assert (found("rare"), found("starter")) == (1, 3)
    monkeypatch.setattr(stats, "MAX_LOOKS", 3)
    assert (found("rare"), found("starter")) == (0, 3)


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
