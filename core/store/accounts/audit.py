"""Audit log: one log line per change, with `audit: true` in JSON. It says who changed what, and from where.

The line is written just before the commit. It has ids and names of models, but never secrets, file names or
class names.
"""

import getpass
import logging
from contextvars import ContextVar
from dataclasses import dataclass

from core.store.accounts.owners import DEFAULT_OWNER

logger = logging.getLogger("core.audit")


@dataclass(frozen=True)
class Actor:
    """Author of a change."""

    owner: str
    key_id: str
    """Id of the key, `token`, or for a command `local:` and the name of the machine's user."""
    address: str | None = None
    """Address of the client, or None for a command on the service's machine."""


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


def act_as(actor: Actor) -> None:
    """Set the actor of all later changes in this task, and in threads that copy its context."""
    _actor.set(actor)


def actor() -> Actor:
    """Return the current actor. Unless the API has set one, it is a command."""
    return _actor.get() or Actor(DEFAULT_OWNER, f"local:{_user()}")


def record(action: str, target: str) -> None:
    """Log a change. Call this at the end of its transaction.

    A request that changes nothing must log nothing. Otherwise its repetition would fill the log.

    Args:
        action: kind of object and verb, such as `job.cancel`.
        target: id or name of what is changed.
    """
    who = actor()
    fields = {"actor": who.key_id, "owner": who.owner, "address": who.address}
    logger.info(
        "%s %s by %s of %s, %s",
        *(action, target, who.key_id, who.owner, who.address or "this machine"),
        extra={"audit": {"action": action, "target": target, **fields}},
    )


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
