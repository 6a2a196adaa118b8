# Generated from clipcite/client/_async/client.py by `python -m tests.repository.unasync`. Do not edit.
"""The client of one service."""

from types import TracebackType
from typing import Any, Self

from clipcite.client import request as calls
from clipcite.client._sync.models import Models
from clipcite.client._sync.transport import Transport
from clipcite.client.retry import Retry
from clipcite.client.types import Readiness


class Client(Models):
    """A clipcite service. One client may be shared by threads.

    Args:
        base_url: its address; default CLIPCITE_URL, or http://127.0.0.1:8000.
        api_key: sent as `Authorization: Bearer`; default CLIPCITE_API_KEY, or none.
        retry: when requests are sent again; `Retry(attempts=1)` never does.
        verify: False, or an `ssl.SSLContext`, for certificates that this machine does not know.

    Every method raises `APIConnectionError` when there is no answer and an `APIStatusError` with the
    service's words when it is an error.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: Retry = Retry(),
        verify: Any = True,
    ) -> None:
        self._transport = Transport(base_url, api_key, retry, verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def ready(self) -> Readiness:
        """Return the readiness of the service and of its parts."""
        return self._transport.send(calls.ready())
