"""Each golden data folder is migrated, verified, answers as before, and goes on with its jobs."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.store.backup import verify
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.golden.make_golden import ENVIRONMENT, EXPECTED, HERE, PLACE, classify
from tests.service.running import colours, epochs_of, serve, submit, wait_for_job

ARCHIVES = sorted(HERE.glob("*.tar.xz"))
MAX_BYTES = 1_000_000
SIMILARITY = 1
"""Place of the similarity in a stored prediction, after the probability."""


@dataclass(frozen=True)
class Golden:
    data: Path
    expected: dict[str, Any]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Golden]:
    """Unpack an archive. Its backbone has to lie where it was."""
    with tarfile.open(request.param) as file:
        file.extractall(tmp_path, filter="data")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    (tmp_path / "backbone").rename(tmp_path / "unpacked")
    shutil.copytree(tmp_path / "unpacked", PLACE / "backbone")
    yield Golden(tmp_path / "data", json.loads((tmp_path / EXPECTED).read_text(encoding="utf-8")))
    shutil.rmtree(PLACE)


def test_there_is_one_and_it_is_small() -> None:
    assert ARCHIVES
    assert all(path.stat().st_size <= MAX_BYTES for path in ARCHIVES)


@pytest.mark.slow
def test_a_golden_folder_opens(golden: Golden, tmp_path: Path) -> None:
    expected = golden.expected
    url = f"sqlite:///{golden.data / 'clipcite.db'}"
    migrate.upgrade(url)
    database = Database(url)
    found = verify.verify_installation(database, Blobs((golden.data / "blobs").as_uri()))
    database.close()
    assert (found.problems, found.unowned) == ([], [])

    environment = {**ENVIRONMENT, "CLIPCITE_CACHE": str(tmp_path / "cache"), "CLIPCITE_REQUIRE_TOKEN": "true"}
    with serve(golden.data, environment) as service:
        assert httpx.get(f"{service.url}/jobs").status_code == 401  # it has a key
        headers = {"Authorization": f"Bearer {expected['key']}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=60) as http:
            check(http, expected)


def check(http: httpx.Client, expected: dict[str, Any]) -> None:
    for wanted in expected["answers"]:
        answer = classify(http, wanted["model"], wanted["alpha"])
        for got, want in zip(answer["predictions"], wanted["predictions"], strict=True):
            assert set(got) == set(want)
            for name in want:
                # Probabilities also depend on the rules for requests, which versions improve.
                assert got[name][SIMILARITY] == pytest.approx(want[name][SIMILARITY], abs=1e-6)
    [four_bit, full] = expected["models"]
    alias = http.get("/models/things/aliases/prod").raise_for_status().json()
    assert alias["model"] == full
    assert [move["model"] for move in alias["history"]] == [full, four_bit]
    for job_id in expected["jobs"]:
        assert http.get(f"/jobs/{job_id}/report").raise_for_status().json()["verdict"]
        page = http.get(f"/jobs/{job_id}/report", headers={"Accept": "text/html"})
        assert "data:image/jpeg" in page.raise_for_status().text

    resumed = wait_for_job(http, expected["interrupted"])
    assert (resumed["status"], resumed["attempts"]) == ("succeeded", 2)
    [epoch] = epochs_of(http, expected["interrupted"], "resumed")
    assert epoch >= expected["epoch"]
    assert wait_for_job(http, expected["queued"])["status"] == "succeeded"

    extended = http.post(
        f"/models/{full}/extend",
        files={"archive": ("more.zip", colours())},
        data={"config": json.dumps({"epochs": 1})},
    )
    assert extended.status_code == 202, extended.text
    assert wait_for_job(http, extended.json()["id"])["status"] == "succeeded"
    fresh = submit(http, colours(), epochs=1)
    assert wait_for_job(http, fresh)["status"] == "succeeded"
