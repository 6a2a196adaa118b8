"""Blocking calls in threads. test_apart.py tests their bounds and turns."""

import asyncio
from typing import Any

from api.threads import Threads


def test_an_error_passes_the_turn_on() -> None:
    async def run() -> list[Any]:
        threads = Threads(1)
        results = await asyncio.gather(
            threads.run(int, "no number"), threads.run(int, "1"), return_exceptions=True
        )
        return [isinstance(results[0], ValueError), results[1]]

    assert asyncio.run(run()) == [True, 1]
