"""`clipcite jobs`: look at, wait for, cancel and delete adaptations."""

from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, give_up, out, print_json, say_gone
from clipcite.cli.render.progress import show_result, wait_for
from clipcite.cli.render.tables import job_facts, job_table, progress_words
from clipcite.client.errors import WaitTimeout
from clipcite.client.parse import parse
from clipcite.client.types import PROGRESS, Event, Progress

jobs = typer.Typer(help="Adaptations.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The job's id.")]


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@jobs.command("list")
def list_jobs(
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Newest first."""
    with connected(url, key) as client:
        every = client.jobs.list(status.value if status else None, page_size=min(limit, 100))
        found = list(islice(every, limit))
    if as_json:
        print_json([job.raw for job in found])
    else:
        console = out()
        console.print(job_table(found, console.width))


@jobs.command()
def show(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """How far it is, or what came of it."""
    with connected(url, key) as client:
        job = client.jobs.get(id)
    if as_json:
        print_json(job.raw)
        return
    out().print(job_facts(job))
    if job.ended:
        show_result(job)


@jobs.command()
def wait(
    id: Id,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then it ends with status 1.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Watch it until it has ended. Ctrl-C detaches: the job goes on.

    A restart of the service is waited out."""
    with connected(url, key) as client:
        try:
            wait_for(client, id, as_json=as_json, timeout=timeout)
        except WaitTimeout as error:
            give_up(str(error), Exit.FAILED)


@jobs.command()
def cancel(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """A queued job at once, a running one within seconds."""
    with connected(url, key) as client:
        job = client.jobs.cancel(id)
    if as_json:
        print_json(job.raw)
    else:
        out().print(f"{job.id} {'is cancelled' if job.status == 'cancelled' else 'will stop in a moment'}.")


@jobs.command()
def delete(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """The job and its images. Its model stays."""
    with connected(url, key) as client:
        client.jobs.delete(id)
    say_gone(id, "and its images are gone.", as_json=as_json)


@jobs.command()
def events(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """What happened to it, in order."""
    with connected(url, key) as client:
        for event in client.jobs.follow(id) if follow else client.jobs.events(id):
            _show(event, as_json=as_json)


def _show(event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json({"seq": event.seq, "at": event.at.isoformat(), "type": event.type, "data": event.data})
        return
    if event.type == PROGRESS:
        said = progress_words(parse(Progress, event.data))
    else:
        said = ", ".join(f"{name} {value}" for name, value in event.data.items() if value not in (None, {}))
    out().print(f"[dim]{event.at:%H:%M:%S}[/] {event.type:<10} {escape(said)}".rstrip(), soft_wrap=True)
