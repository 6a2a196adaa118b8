"""`clipcite serve` while it starts, and while the API restarts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port
from tests.service.running import serve, wait_for


@contextmanager
def polling(url: str) -> Iterator[list[str]]:
    """Request a page repeatedly, and yield the growing list of outcomes."""
    outcomes: list[str] = []
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(0.02):
            try:
                outcomes.append(str(httpx.get(url, timeout=600).status_code))
            except httpx.ConnectError:
                outcomes.append("refused")
            except httpx.HTTPError:  # The process was killed while it responded.
                outcomes.append("lost")

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_no_connection_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    port = free_port()
    with (
        polling(f"http://127.0.0.1:{port}/") as outcomes,
        serve(tmp_path / "data", environment, port=port) as service,
    ):
        wait_for(lambda: outcomes[-1] == "200")
        first = next(i for i, outcome in enumerate(outcomes) if outcome != "refused")
        assert {"503", "200"} <= set(outcomes[first:])
        assert "refused" not in outcomes[first:]
        ready = len(outcomes)
        service.child("api").kill()
        wait_for(lambda: "503" in outcomes[ready:] and outcomes[-1] == "200")
        assert "refused" not in outcomes[ready:]
