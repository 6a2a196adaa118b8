"""Audit log: who changed what, from where, as a log line with `audit: true` in JSON.

The line is written just before the commit. It has ids and names of models, but no secrets and no names of
images or classes.
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
    """Id of the key, `token`, or `local:` with the name of the machine's user for a command."""
    address: str | None = None
    """Address of the client. None: a command on the machine of the service."""


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


def act_as(actor: Actor) -> None:
    """Set the actor of all later changes of this task. Threads that copy its context act for it too."""
    _actor.set(actor)


def actor() -> Actor:
    """Return the present actor, which is a command unless the API has set one."""
    return _actor.get() or Actor(DEFAULT_OWNER, f"local:{_user()}")


def record(action: str, target: str) -> None:
    """Log a change, at the end of its transaction.

    A request that changes nothing must log nothing: repeated, it would fill the log.

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
