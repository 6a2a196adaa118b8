"""The client of one service."""

from types import TracebackType
from typing import Any, Self

from clipcite.client import request as calls
from clipcite.client._async.models import AsyncModels
from clipcite.client._async.transport import AsyncTransport
from clipcite.client.retry import Retry
from clipcite.client.types import Readiness


class AsyncClient(AsyncModels):
    """A clipcite service, for asyncio and trio. One client may be shared by tasks.

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
        self._transport = AsyncTransport(base_url, api_key, retry, verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.aclose()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    async def ready(self) -> Readiness:
        """Return the readiness of the service and of its parts."""
        return await self._transport.send(calls.ready())
