"""Aliases of models: references such as `shoes@prod`."""

from collections.abc import Sequence
from types import EllipsisType

from clipcite.client._async.transport import AsyncTransport
from clipcite.client.request import Request, path_of
from clipcite.wire.models import Alias

ExpectedModel = str | None | EllipsisType
"""The model that an alias must point to for a change to be made; None: no alias yet; `...`: no condition."""


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

    async def promote(self, name: str, alias: str, model: str, *, expected: ExpectedModel = ...) -> Alias:
        """Point `name@alias` to a version of this name; create the alias if it does not exist.

        Args:
            name: name of the models.
            alias: alias without the name, such as "prod".
            model: id, `name@version` or `name@alias` of the new target.
            expected: model that the alias must point to now; None: the alias must not exist.

        Raises:
            ConflictError: the alias does not point to `expected`. It was not changed.
        """
        body = {"model": model, **_condition(expected)}
        # After a promotion, its condition no longer holds.
        request = Request("PUT", _path(name, alias), json=body, idempotent=expected is ...)
        return await self._transport.fetch(Alias, request)

    async def rollback(self, name: str, alias: str, *, expected: ExpectedModel = ...) -> Alias:
        """Undo the last promotion. A second call undoes the one before.

        Raises:
            ConflictError: the alias does not point to `expected`, or there is no earlier target.
        """
        path = f"{_path(name, alias)}/rollback"
        request = Request("POST", path, json=_condition(expected), idempotent=False)
        return await self._transport.fetch(Alias, request)

    async def delete(self, name: str, alias: str) -> None:
        """Delete the alias and its history. The models remain."""
        await self._transport.send(Request("DELETE", _path(name, alias)))


def _path(name: str, alias: str) -> str:
    return path_of("models", name, "aliases", alias)


def _condition(expected: ExpectedModel) -> dict[str, str | None]:
    return {} if isinstance(expected, EllipsisType) else {"expected": expected}
