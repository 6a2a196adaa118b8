"""`clipcite serve` while it starts, and while the API restarts."""

from pathlib import Path

import httpx
import pytest

from tests.core.store.races import meanwhile
from tests.servers import free_port
from tests.service.running import serve, wait_for


def outcome_of(url: str) -> str:
    try:
        return str(httpx.get(url, timeout=600).status_code)
    except httpx.ConnectError:
        return "refused"
    except httpx.HTTPError:  # The process was killed while it responded.
        return "lost"


@pytest.mark.slow
def test_no_connection_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    port, outcomes = free_port(), list[str]()
    with (
        meanwhile(lambda: outcomes.append(outcome_of(f"http://127.0.0.1:{port}/"))),
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
