"""Downloads of backbones by the dispatcher, in real processes, from a local hub."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.clip.models import installed
from core.clip.models.recommend import read_speed
from core.settings import Settings
from core.store import backbones
from core.store.db.session import Database
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub
from worker.dispatcher.backbones import Downloads

pytestmark = pytest.mark.slow
NAME = "hf-hub:tests/tiny"


@pytest.fixture
def cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    monkeypatch.setenv("CLIPCITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def downloads(cache: Path, database: Database) -> Iterator[Downloads]:
    made = Downloads(Settings(cache=cache), database)
    yield made
    made.stop()


def request(database: Database) -> None:
    with database.write() as session:
        backbones.request_pull(session, NAME, use=True)


def run_until(downloads: Downloads, done: Callable[[], object]) -> None:
    until = time.monotonic() + 300
    while not done():
        assert time.monotonic() < until
        downloads.round()
        time.sleep(0.05)


def test_a_download_is_checked_and_becomes_the_default(
    downloads: Downloads, database: Database, cache: Path
) -> None:
    request(database)

    def ended() -> bool:
        with database.read() as session:
            return not backbones.pulls(session)

    run_until(downloads, ended)
    assert installed.verify(NAME, cache) == []
    assert read_speed(NAME, cache)
    with database.read() as session:
        assert backbones.default(session, Settings()) == NAME


def test_a_stopped_download_is_continued(
    downloads: Downloads, database: Database, cache: Path, hub: Hub
) -> None:
    hub.delay_seconds = 0.1
    request(database)
    run_until(downloads, lambda: (done := installed.progress(NAME, cache)) and done.done_bytes > 500_000)
    with database.write() as session:
        backbones.stop_pull(session, NAME)
    downloads.round()
    stopped = installed.progress(NAME, cache)
    assert stopped is not None
    time.sleep(0.5)
    assert installed.progress(NAME, cache) == stopped
    hub.delay_seconds = 0.0
    request(database)
    run_until(downloads, lambda: installed.read(NAME, cache))
    assert any(ranged is not None for ranged in hub.transfers())


def test_a_failed_download_has_the_sentence_of_the_hub(
    downloads: Downloads, database: Database, hub: Hub
) -> None:
    hub.status = 503
    request(database)

    def error() -> str | None:
        with database.read() as session:
            [pull] = backbones.pulls(session)
            return pull.error

    run_until(downloads, error)
    assert error() == (
        f"The hub {hub.url} answers with status 503. Try again later, or set HF_ENDPOINT to a mirror."
    )
    downloads.round()  # no second try
    assert error()
