"""Aliases of models: references such as `shoes@prod`."""

from collections.abc import Sequence

from clipcite.client._async.transport import AsyncTransport
from clipcite.client.request import Request, path_of
from clipcite.types.models import Alias


class AsyncAliases:
    """Operations on aliases: `client.aliases`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, name: str) -> Sequence[Alias]:
        """Return the aliases of a model name, in alphabetical order."""
        return await self._transport.fetch_list(Alias, Request("GET", path_of("models", name, "aliases")))

    async def get(self, name: str, alias: str) -> Alias:
        """Return the alias `name@alias`."""
        return await self._transport.fetch(Alias, Request("GET", _path(name, alias)))

    async def promote(self, name: str, alias: str, model: str) -> Alias:
        """Point `name@alias` to a version of this name. Create the alias if it does not exist.

        Args:
            name: name of the models.
            alias: alias without the name, such as "prod".
            model: id, `name@version` or `name@alias` of the new target.
        """
        return await self._transport.fetch(Alias, Request("PUT", _path(name, alias), json={"model": model}))

    async def rollback(self, name: str, alias: str) -> Alias:
        """Undo the last promotion. A second call undoes the promotion before it.

        Raises:
            ConflictError: there is no earlier target.
        """
        request = Request("POST", f"{_path(name, alias)}/rollback", idempotent=False)
        return await self._transport.fetch(Alias, request)

    async def delete(self, name: str, alias: str) -> None:
        """Delete the alias and its history. The models remain."""
        await self._transport.send(Request("DELETE", _path(name, alias)))


def _path(name: str, alias: str) -> str:
    return path_of("models", name, "aliases", alias)
