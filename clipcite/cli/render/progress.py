"""A job while it runs: a live line on a terminal, a line per epoch elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from clipcite.cli.connection import Exit, note, out, print_json
from clipcite.cli.render.tables import duration, loss_words, metrics_table, progress_words, sparkline, verdict
from clipcite.client._sync.client import Client
from clipcite.client._sync.download import OnDownload
from clipcite.client._sync.jobs import Job
from clipcite.client.multipart import OnUpload


@contextmanager
def upload_bar(console: Console) -> Iterator[OnUpload]:
    """Call what is yielded with the bytes sent and their number."""
    columns = (TextColumn("  {task.description:<10}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("uploading", total=None)

        def sent(done: int, total: int | None) -> None:
            checking = done == total
            bar.update(task, completed=done, total=total, description="checking" if checking else "uploading")

        yield sent


@contextmanager
def download_bar(console: Console) -> Iterator[OnDownload]:
    """Call what is yielded with the bytes that came and their number."""
    columns = (TextColumn("  {task.description:<10}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("preparing", total=None)

        def came(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, description="saving")

        yield came


def wait_for(client: Client, job_id: str, *, as_json: bool, timeout: float | None = None) -> None:
    """Show the job until it has ended, then its result; ends the command with its status."""
    with _ctrl_c_detaches(job_id), watched(note()) as tell:
        job = client.jobs.wait(job_id, on_change=tell, timeout=timeout)
    if as_json:
        print_json(job.raw)
    else:
        show_result(job)
    raise typer.Exit(Exit.OK if job.status == "succeeded" else Exit.FAILED)


def show_result(job: Job) -> None:
    console = out()
    for warning in job.warnings:
        console.print(f"[yellow]note[/]     {escape(warning.detail)}", soft_wrap=True)
    if job.status != "succeeded":
        reason = f": {escape(job.error.detail)} ({job.error.code})" if job.error else "."
        console.print(f"[red]{job.id} {job.status}[/]{reason}", soft_wrap=True)
        return
    if job.metrics is not None:
        table = metrics_table(job.metrics)
        if table is not None:
            console.print(table)
        console.print(f"verdict  {verdict(job.metrics)}", soft_wrap=True)
    console.print(f"model    [bold]{job.model_id}[/]", soft_wrap=True)
    names = ",".join(one.name for one in job.classes[:3])
    console.print(
        f'try      clipcite classify IMAGES --model {job.model_id} --classes "{escape(names)}"',
        soft_wrap=True,
    )


@contextmanager
def _ctrl_c_detaches(job_id: str) -> Iterator[None]:
    """The job is the service's: Ctrl-C ends the looking on only, and says how to come back."""
    try:
        yield
    except KeyboardInterrupt:
        note().print(
            "\nDetached: the job goes on.\n"
            f"to come back  [bold]clipcite jobs wait {job_id}[/]\n"
            f"to end it     clipcite jobs cancel {job_id}",
            soft_wrap=True,
        )
        raise typer.Exit(Exit.DETACHED) from None


@contextmanager
def watched(console: Console) -> Iterator[Callable[[Job], None]]:
    """Call what is yielded with the job whenever something has changed."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rest]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, bar.add_task("", total=None, rest=""))


class _Lines:
    """For logs: a line for each stage and each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: object = None

    def __call__(self, job: Job) -> None:
        progress = job.progress
        now = (job.status, progress and (progress.stage, progress.epoch))
        if now != self._shown:
            self._shown = now
            words = progress_words(progress) if progress and job.status == "running" else job.status
            self._console.print(f"{job.id}  {words}", markup=False, soft_wrap=True)


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._losses: list[float] = []

    def __call__(self, job: Job) -> None:
        progress = job.progress
        if job.status == "queued" or progress is None:
            place = f"place {job.queue_position} in the queue" if job.queue_position else ""
            self._bar.update(
                self._task, description="waiting" if job.status == "queued" else "starting", rest=place
            )
            return
        rest = ""
        if progress.loss is not None and progress.stage == "training":
            self._losses.append(progress.loss.total)
            rest = f"{sparkline(self._losses)} {loss_words(progress.loss)}"
        if progress.eta_seconds:
            rest += f"  {duration(progress.eta_seconds)} left"
        known = progress.fraction > 0  # before the training nobody knows how far it is
        self._bar.update(
            self._task,
            description=progress.stage,
            total=1.0 if known else None,
            completed=progress.fraction,
            rest=rest.strip(),
        )
