"""Large responses: sent in pieces, and counted as memory of their owner until they are read."""

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from api.middleware.large_responses import PIECE_BYTES, LargeResponses
from core.admission import Budget

LARGE = 5_000_000


async def answers(
    memory: Budget,
    owner: str,
    sent: list[Message],
    body: bytes = bytes(LARGE),
    go_on: asyncio.Event | None = None,
) -> None:
    """Answer a request with a body. The client reads the first piece, and the others after `go_on`."""

    async def send(message: Message) -> None:
        sent.append(message)
        if go_on and len(sent) == 3:
            await go_on.wait()

    async def receive() -> Message:
        raise AssertionError("The request has no body.")

    with memory.hold(owner) as take:
        state = {"take_memory": take}
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": state}
        await LargeResponses(Response(body))(scope, receive, send)


def body_of(sent: list[Message]) -> bytes:
    return b"".join(message["body"] for message in sent[1:])


def test_a_large_response_holds_memory_until_it_is_read() -> None:
    """An owner has half of the memory. Another owner is served meanwhile."""

    async def run() -> None:
        memory = Budget(3 * LARGE, retry_after=10)
        go_on = asyncio.Event()
        slow: list[Message] = []
        reading = asyncio.create_task(answers(memory, "ann", slow, go_on=go_on))
        await asyncio.sleep(0)
        assert memory.held == LARGE
        refused: list[Message] = []
        await answers(memory, "ann", refused)
        assert refused[0]["status"] == 503
        assert dict(refused[0]["headers"])[b"retry-after"] == b"10"
        assert json.loads(body_of(refused))["code"] == "busy"
        others: list[Message] = []
        await answers(memory, "bob", others)
        assert (others[0]["status"], len(body_of(others))) == (200, LARGE)
        go_on.set()
        await reading
        assert len(body_of(slow)) == LARGE
        assert memory.held == 0

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 1_000_001, LARGE])
def test_a_response_arrives_whole_in_pieces_that_a_slow_client_can_read(size: int) -> None:
    body = bytes(i % 251 for i in range(size))
    sent: list[Message] = []
    asyncio.run(answers(Budget(3 * LARGE), "ann", sent, body))
    assert body_of(sent) == body
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert max(len(message["body"]) for message in sent[1:]) <= PIECE_BYTES
