"""Contents of a cache, which the service itself does not ask for."""

from typing import Any, NamedTuple

from api.serving.pool.cache import WarmCache


class Contents(NamedTuple):
    values: int
    in_use: int


def contents(cache: WarmCache[Any], kind: str) -> Contents:
    """Return the number of loaded values of a kind, and how many of these are in use."""
    with cache._changed:
        held = (*cache._orphans, *cache._entries.values())
        entries = [each for each in held if each.key[0] == kind and each.admitted and each.future.done()]
        return Contents(len(entries), sum(each.users > 0 for each in entries))
