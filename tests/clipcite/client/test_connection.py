"""The Python client on lost, slow and untrusted connections, without a service."""

from typing import Any

import pytest

from clipcite import APIConnectionError, Client, Retry
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.client.scripted import response, scripted_server

QUICK = Retry(attempts=3, first_seconds=0.01)
ALIAS = '{"name": "a", "alias": "prod", "reference": "a@prod", "model": "mdl_1", "version": 2, "revision": 1}'
both = pytest.mark.parametrize("connect", [Client, awaited_client])


@both
def test_a_conditional_promotion_is_sent_once(connect: Any) -> None:
    """After a promotion whose response is lost, its condition no longer holds: a retry would be refused."""
    with (
        scripted_server(b"", b"", b"", response(ALIAS)) as lost,
        connect(lost.url, "key", retry=QUICK) as client,
    ):
        for number, expected in enumerate(("a@1", None), 1):
            with pytest.raises(APIConnectionError):
                client.aliases.promote("a", "prod", "a@2", expected=expected)
            assert len(lost.seen) == number
        assert client.aliases.promote("a", "prod", "a@2").version == 2
        assert len(lost.seen) == 4
