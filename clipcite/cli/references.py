"""Jobs, models and piles as a person names them: whole ids, names, and the short ids that the lists show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import typer

from clipcite.cli.connection import Exit, give_up
from clipcite.errors import NotFoundError, PermissionDeniedError

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client

JOB = "job_"
WHOLE = (JOB, "mdl_")
"""Beginnings of whole ids."""


def find_job(client: Client, id: str) -> str:
    """Return the whole id of a job from its name, or its end as `clipcite jobs list` shows it."""
    return _find(id, JOB, "job", client.jobs.list)


def find_pile(client: Client, id: str) -> str:
    """Return the whole id of a pile from its name, or its end as `clipcite piles list` shows it."""
    return _find(id, "pil_", "pile", client.piles.list)


def _find(id: str, beginning: str, kind: str, list_all: Callable[[], Iterable[Any]]) -> str:
    if not id:
        raise typer.BadParameter("must not be empty.", param_hint=kind.upper())
    if id.startswith(beginning):
        return id
    listed = list(list_all())
    found = [each.id for each in listed if each.id.endswith(id)]
    found = found or [each.id for each in listed if each.name == id]
    if len(found) != 1:
        those = f"{len(found)} {kind}s have" if found else f"No {kind} has"
        advice = f"{'Use more of an id:' if found else 'Run'} `clipcite {kind}s list`."
        give_up(f"{those} the name {id!r}, or an id that ends in it. {advice}", Exit.USAGE)
    return str(found[0])


def find_model(client: Client, reference: str, *, or_job: bool = False) -> str:
    """Return a reference to a model as it is, or the whole id that ends in it; with `or_job` also a job's.

    An unknown reference ends the command, with the names that are spelt like it.
    """
    if reference.startswith(WHOLE):
        return reference
    try:
        client.models.get(reference)
    except NotFoundError as error:
        if error.code == "model_not_promoted":
            raise
        models = list(client.models.list())
        ids = [model.id for model in models]
        if or_job:
            with suppress(PermissionDeniedError):  # a key for classify may not list jobs
                ids += [job.id for job in client.jobs.list()]
        found = [each for each in ids if each.endswith(reference)]
        if len(found) == 1:
            return found[0]
        name, at, tag = reference.partition("@")
        if at and any(model.name == name for model in models):
            if tag.isdigit():
                advice = "`clipcite models list` shows its versions."
                give_up(f"{name!r} has no version {tag}. {advice}", Exit.REFUSED)
            advice = f"`clipcite models promote {reference} {name}` points it at the version in use."
            give_up(f"{name!r} has no alias {tag!r}. {advice}", Exit.REFUSED)
        near = get_close_matches(reference, {model.name for model in models if model.name})
        meant = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Run `clipcite models list`."
        give_up(f"No model {reference!r}. {meant}", Exit.REFUSED)
    return reference
