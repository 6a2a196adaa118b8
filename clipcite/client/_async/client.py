"""The client of one service."""

from types import TracebackType
from typing import Any, Self

from clipcite.client._async.adapter import AsyncAdapter
from clipcite.client._async.aliases import AsyncAliases
from clipcite.client._async.jobs import AsyncJobs
from clipcite.client._async.models import AsyncModels
from clipcite.client._async.piles import AsyncPiles
from clipcite.client._async.transport import AsyncTransport
from clipcite.client.request import Request, parse
from clipcite.client.retry import Retry
from clipcite.errors import InternalServerError
from clipcite.types.health import Readiness


class AsyncClient(AsyncAdapter):
    """Client of a clipcite service, for asyncio and trio. Tasks may share a client.

    Args:
        base_url: address of the service (default: CLIPCITE_URL, or http://127.0.0.1:8000).
        api_key: API key (default: CLIPCITE_API_KEY; on loopback also the token in CLIPCITE_DATA).
        retry: retry policy; `Retry(attempts=1)` disables retries.
        verify: False, or an `ssl.SSLContext`, for certificates unknown to this machine.

    Attributes:
        jobs: training jobs: `list`, `get`, `wait`, `cancel`, `delete`, `report` …
        models: adapted models: `list`, `get`, `rename`, `export`, `import_model`, `delete`.
        piles: images that wait for labels: `create`, `list`, `get`, `match`, `delete`.
        aliases: references such as `shoes@prod`: `list`, `get`, `promote`, `rollback`, `delete`.

    Every method raises `APIConnectionError` without a response, and `APIStatusError` for an error response.
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
        self.jobs = AsyncJobs(self._transport)
        self.models = AsyncModels(self, self._transport)
        self.piles = AsyncPiles(self._transport)
        self.aliases = AsyncAliases(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    async def ready(self) -> Readiness:
        """Return the readiness of the service and its parts, even if it is not ready."""
        try:
            return await self._transport.fetch(Readiness, Request("GET", "/readyz", read_seconds=10))
        except InternalServerError as error:
            if not isinstance(error.body, dict) or "parts" not in error.body:
                raise
            return parse(Readiness, error.body)
