"""Jobs and models as a person names them: whole ids, names, and the short ids that the lists show."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import typer

from clipcite.cli.connection import Exit, give_up
from clipcite.client.errors import NotFoundError

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client

JOB = "job_"
WHOLE = (JOB, "mdl_")
"""Beginnings of whole ids."""


def find_job(client: Client, id: str) -> str:
    """Return the whole id of a job from its last characters, as `clipcite jobs list` shows them."""
    if not id:
        raise typer.BadParameter("must not be empty.", param_hint="JOB")
    if id.startswith(JOB):
        return id
    found = [job.id for job in client.jobs.list() if job.id.endswith(id)]
    if len(found) != 1:
        advice = "Run `clipcite jobs list`." if not found else "Use more of its characters."
        give_up(f"{len(found) or 'No'} jobs have an id that ends in {id!r}. {advice}", Exit.USAGE)
    return found[0]


def find_model(client: Client, reference: str, *, or_job: bool = False) -> str:
    """Return a reference to a model as it is, or the whole id that ends in it; with `or_job` also a job's.

    An unknown reference ends the command, with the names that are spelt like it.
    """
    if reference.startswith(WHOLE):
        return reference
    try:
        client.models.get(reference)
    except NotFoundError:
        models = list(client.models.list())
        ids = [model.id for model in models] + ([job.id for job in client.jobs.list()] if or_job else [])
        found = [each for each in ids if each.endswith(reference)]
        if len(found) == 1:
            return found[0]
        name, at, tag = reference.partition("@")
        if at and any(model.name == name for model in models):
            if tag.isdigit():
                advice = "`clipcite models list` shows its versions."
                give_up(f"{name!r} has no version {tag}. {advice}", Exit.REFUSED)
            advice = f"`clipcite models promote {reference} {name}` points it at the latest version."
            give_up(f"{name!r} has no alias {tag!r}. {advice}", Exit.REFUSED)
        near = get_close_matches(reference, {model.name for model in models if model.name})
        meant = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Run `clipcite models list`."
        give_up(f"No model {reference!r}. {meant}", Exit.REFUSED)
    return reference
