# Generated from clipcite/client/_async/aliases.py by `python -m tests.repository.unasync`. Do not edit.
"""Aliases of models: references such as `shoes@prod`."""

from collections.abc import Sequence

from clipcite.client import model_requests
from clipcite.client._sync.transport import Transport
from clipcite.client.model_requests import ExpectedModel
from clipcite.wire.models import Alias


class Aliases:
    """Operations on aliases: `client.aliases`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, name: str) -> Sequence[Alias]:
        """Return the aliases of a model name, in alphabetical order."""
        return self._transport.send(model_requests.list_aliases(name))

    def get(self, name: str, alias: str) -> Alias:
        """Return the alias `name@alias`."""
        return self._transport.send(model_requests.get_alias(name, alias))

    def promote(self, name: str, alias: str, model: str, *, expected: ExpectedModel = ...) -> Alias:
        """Point `name@alias` to a version of this name; create the alias if it does not exist.

        Args:
            name: name of the models.
            alias: alias without the name, such as "prod".
            model: id, `name@version` or `name@alias` of the new target.
            expected: model that the alias must point to now; None: the alias must not exist.

        Raises:
            ConflictError: the alias does not point to `expected`. It was not changed.
        """
        return self._transport.send(model_requests.promote(name, alias, model, expected))

    def rollback(self, name: str, alias: str, *, expected: ExpectedModel = ...) -> Alias:
        """Undo the last promotion. A second call undoes the one before.

        Raises:
            ConflictError: the alias does not point to `expected`, or there is no earlier target.
        """
        return self._transport.send(model_requests.rollback(name, alias, expected))

    def delete(self, name: str, alias: str) -> None:
        """Delete the alias and its history. The models remain."""
        self._transport.send(model_requests.delete_alias(name, alias))
