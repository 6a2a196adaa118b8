"""The same client to await."""

from clipcite.client import request as calls
from clipcite.client._async.models import AsyncModels
from clipcite.client.types import Readiness


class AsyncClient(AsyncModels):
    """`Client` for asyncio and trio: the same arguments, results and exceptions."""

    async def ready(self) -> Readiness:
        """Whether the service can work, part by part."""
        return await self._send(calls.ready())
