"""Durations of recent jobs."""

import pytest

from core.store.db.session import Database
from core.store.jobs import history
from tests.core.store.samples import claimed, new_job, publish


def end_job(database: Database, backbone: str) -> None:
    config = {"backbone": backbone, "image_size": None}
    assert publish(database, claimed(database, new_job(database, config=config)))


def test_a_limited_number_of_jobs_is_searched_for_a_backbone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(backbone: str) -> int:
        with database.read() as session:
            return len(history.recent_successes(session, backbone=backbone, image_size=None))

    end_job(database, "rare")
    for _ in range(3):
        end_job(database, "starter")
    new_job(database, config={"backbone": "rare", "image_size": None})
    assert (found("rare"), found("starter")) == (1, 3)
    monkeypatch.setattr(history, "MAX_LOOKS", 3)
    assert (found("rare"), found("starter")) == (0, 3)
