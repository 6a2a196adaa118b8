"""`clipcite jobs`: list, show, wait for, cancel and delete training jobs."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Literal

import typer

from clipcite.cli.connection import (
    AsJson,
    Exit,
    Key,
    Url,
    Yes,
    confirm,
    connected,
    give_up,
    print_deleted,
    print_json,
    stdout,
)
from clipcite.cli.references import find_job
from clipcite.cli.render.progress import show_result, wait_for
from clipcite.cli.render.tables import job_facts, job_table, print_rows, print_table
from clipcite.errors import WaitTimeout

jobs = typer.Typer(help="Training jobs.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, its last characters, or its name.")]


@jobs.command("list")
def list_jobs(
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        typer.Option(help="Only jobs with this status."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of results.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List training jobs, newest first."""
    with connected(url, key) as client:
        jobs = client.jobs.list(status, page_size=min(limit, 100))
        shown = list(islice(jobs, limit))
    print_rows(shown, job_table, as_json=as_json)


@jobs.command()
def show(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a job's progress or result."""
    with connected(url, key) as client:
        job = client.jobs.get(find_job(client, id))
    if as_json:
        print_json(job.raw)
        return
    print_table(stdout(), job_facts(job))
    if job.finished:
        show_result(job)


@jobs.command()
def wait(
    id: Id,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Maximum wait (seconds, default: none), after which the status is 1."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Wait until a job ends.

    The command shows the progress and survives a restart of the service. Ctrl-C detaches: the job continues.
    """
    with connected(url, key) as client:
        try:
            wait_for(client, find_job(client, id), as_json=as_json, timeout=timeout)
        except WaitTimeout as error:
            give_up(str(error), Exit.FAILED)


@jobs.command()
def cancel(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Cancel a job. A running one stops in seconds."""
    with connected(url, key) as client:
        job = client.jobs.cancel(find_job(client, id))
    if as_json:
        print_json(job.raw)
    else:
        stdout().print(f"{job.id} {'cancelled' if job.status == 'cancelled' else 'is being cancelled'}.")


@jobs.command()
def delete(id: Id, yes: Yes = False, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Delete a job and its images; its model stays."""
    with connected(url, key) as client:
        job_id = find_job(client, id)
        confirm(f"Delete {job_id} and its images?", yes=yes)
        client.jobs.delete(job_id)
    print_deleted(job_id, "and its images deleted.", as_json=as_json)
