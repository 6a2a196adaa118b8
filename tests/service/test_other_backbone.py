"""CLIP in one click: the starter answers while the service downloads another backbone from a hub."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.core.clip.tiny import make_tiny_backbone
from tests.core.store.races import meanwhile
from tests.hub import Hub
from tests.service.running import colours, plain, running_module, serve, submit, succeeded, wait_for

TINY = "hf-hub:tests/tiny"
PULL = f"/backbones/{TINY}/pull"


@pytest.mark.slow
def test_the_starter_answers_during_every_download(
    hub: Hub, tmp_path: Path, cache_with_starter: Path
) -> None:
    """A download fails, is stopped and repeated. Its backbone then answers, without a restart."""
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    answers = Counter[tuple[int, str | None]]()
    with (
        serve(tmp_path / "data", {"CLIPCITE_CACHE": str(cache_with_starter)}) as service,
        service.http as http,
        service.http as own,
    ):

        def classify() -> None:
            answer = own.post(
                "/classify", data={"class_names": ["red", "blue"]}, files={"images": plain("red")}
            )
            answers[answer.status_code, answer.json().get("backbone")] += 1

        def row() -> dict[str, Any]:
            listed = http.get("/backbones").raise_for_status().json()["data"]
            return next((row for row in listed if row["name"] == TINY), {"state": "unknown"})

        def until(state: str) -> dict[str, Any]:
            found: dict[str, Any] = wait_for(lambda: (now := row())["state"] == state and now)
            return found

        with meanwhile(classify):
            hub.status = 503
            assert http.post(PULL, params={"use": True}).status_code == 202
            assert "responds with status 503" in until("failed")["error"]
            hub.status, hub.delay_seconds = None, 0.1
            assert http.post(PULL, params={"use": True}).json()["state"] == "downloading"
            wait_for(lambda: (row()["progress"] or {"done_bytes": 0})["done_bytes"] > 1_000_000)
            assert http.delete(PULL).status_code == 204
            assert row()["state"] == "unknown"
            wait_for(lambda: not running_module(service.process.pid, "core.clip.models.download"))
            before = answers.total()
            assert http.post(PULL, params={"use": True}).json()["state"] == "downloading"
            assert until("installed")["default"]
            assert answers.total() - before > 10
            wait_for(lambda: http.get("/readyz").json()["backbone"] == TINY)
            wait_for(lambda: (200, TINY) in answers)
        assert set(answers) == {(200, "starter"), (200, TINY)}
        job = succeeded(http, submit(http, colours(), epochs=1))
        assert job["config"]["backbone"] == TINY
