"""Progress of a job: a live line on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from clipcite.cli.connection import Exit, print_json, stderr, stdout
from clipcite.cli.render.tables import duration, progress_words, queue_place
from clipcite.cli.render.verdict import not_in_use, verdict

if TYPE_CHECKING:
    from clipcite.client._async.download import OnDownload
    from clipcite.client._sync.client import Client
    from clipcite.types.jobs import Job


@contextmanager
def transfer_bar(console: Console, before: str, during: str, after: str) -> Iterator[OnDownload]:
    """Show an upload or a download, with a word for the time before, during and after the transfer.

    Yields a function to call with the bytes transferred and their total number.
    """
    columns = (TextColumn("  {task.description:<10}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(before, total=None)

        def on_transfer(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, description=after if done == total else during)

        yield on_transfer


def upload_bar() -> AbstractContextManager[OnDownload]:
    """Show an upload, whose images the service checks at the end."""
    return transfer_bar(stderr(), "uploading", "uploading", "checking")


def wait_for(client: Client, job_id: str, *, as_json: bool, timeout: float | None = None) -> None:
    """Show the progress of a job, then its result, and end the command with its exit status."""
    with _ctrl_c_detaches(job_id), watched(stderr()) as show_progress:
        model_shown = False

        def on_change(job: Job) -> None:
            nonlocal model_shown
            show_progress(job)
            if job.model_id is not None and not job.finished and not model_shown:
                model_shown = True
                if not as_json:
                    _show_model(job, stderr())

        job = client.jobs.wait(job_id, on_change=on_change, timeout=timeout)
    if as_json:
        print_json(job.raw)
    else:
        show_result(job)
    raise typer.Exit(Exit.OK if job.status == "succeeded" else Exit.FAILED)


def show_result(job: Job) -> None:
    """Print the result of a finished job."""
    console = stdout()
    for warning in job.warnings:
        console.print(f"[yellow]note[/]     {escape(warning.detail)}", soft_wrap=True)
    if job.status != "succeeded":
        reason = f": {escape(job.error.detail)} ({job.error.code})" if job.error else "."
        console.print(f"[red]{job.id} {job.status}[/]{reason}", soft_wrap=True)
        return
    console.print(f"verdict  {verdict(job.metrics)}", soft_wrap=True)
    _show_model(job, console)


def _show_model(job: Job, console: Console) -> None:
    """Print how to use the model, which can be used before its evaluation ends."""
    if not job.finished:
        console.print("The model is ready. Its evaluation follows.")
    model_id = job.model_id or ""
    if job.name and job.not_promoted:
        console.print(f"note     {not_in_use(model_id, job.not_promoted)}", soft_wrap=True)
    model = job.name if job.name and job.promoted else model_id
    names = ",".join(each.name for each in job.classes if each.images)
    command = f"clipcite classify IMAGE --model {shlex.quote(model)} --classes {shlex.quote(names)}"
    console.print(f"try      {escape(command)}", soft_wrap=True)
    console.print(f"model    [bold]{escape(model)}[/]  {job.model_id}", soft_wrap=True)


@contextmanager
def _ctrl_c_detaches(job_id: str) -> Iterator[None]:
    """On Ctrl-C, end the command but not the job, and print how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        stderr().print(
            "\nDetached. The job continues.\n"
            f"to reattach   [bold]clipcite jobs wait {job_id}[/]\n"
            f"to cancel     clipcite jobs cancel {job_id}",
            soft_wrap=True,
        )
        raise typer.Exit(Exit.DETACHED) from None


@contextmanager
def watched(console: Console) -> Iterator[Callable[[Job], None]]:
    """Show the progress of a job: one live line on a terminal, else one line per phase and epoch.

    Yields a function to call with the job after every change.
    """
    shown: object = None

    def print_line(job: Job) -> None:
        nonlocal shown
        progress = job.progress
        now = (job.status, progress and (progress.doing or progress.stage, progress.epoch))
        if now != shown:
            shown = now
            words = progress_words(progress) if progress and job.status == "running" else job.status
            console.print(f"{job.id}  {words}", markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield print_line
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rest]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rest="")

        def update(job: Job) -> None:
            progress = job.progress
            if job.status == "queued" or progress is None:
                stage = "Waiting" if job.status == "queued" else "Starting"
                bar.update(
                    task,
                    description=stage,
                    rest=queue_place(job.queue_position) if job.queue_position else "",
                )
                return
            known = progress.fraction > 0  # unknown before the training
            bar.update(
                task,
                description=progress.doing or progress.stage,
                total=1.0 if known else None,
                completed=progress.fraction,
                rest=f"{duration(progress.eta_seconds)} left" if progress.eta_seconds else "",
            )

        yield update
