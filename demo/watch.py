"""A job while it runs: a live bar on a terminal, a line an epoch elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from demo.calls import Calls


def watch_job(console: Console, calls: Calls, job_id: str) -> dict[str, Any]:
    """Show the job until it has succeeded; returns it."""
    job: dict[str, Any] = {}
    with _bar(console) as bar:
        task = bar.add_task("", total=None, rest="")
        shown: object = None
        for job in calls.follow(job_id):
            progress = job["progress"] or {}
            stage = _stage(job)
            rest = losses(progress) if stage in {"training", "done"} else ""
            fraction = 1.0 if stage == "done" else progress.get("fraction") or 0.0
            # Before the training nobody knows how far it is: a bar that moves.
            bar.tasks[0].total = 1.0 if fraction else None
            bar.update(task, completed=fraction, description=stage, rest=rest)
            now = (stage, progress.get("epoch"))
            if not console.is_terminal and now != shown:
                console.print(f"  {stage:<10} {rest}".rstrip())
                shown = now
    return job


def _stage(job: dict[str, Any]) -> str:
    if job["status"] == "queued":
        return "waiting"
    if job["status"] == "running":
        return str((job["progress"] or {}).get("stage", "starting"))
    return "done"


def losses(progress: dict[str, Any]) -> str:
    """The three losses of the last step, unweighted, and how long it will still take."""
    loss = progress.get("loss")
    if not loss:
        return ""
    words = f"epoch {progress['epoch']}/{progress['epochs']}  "
    words += f"L_DVA {loss['dva']:.2f}  L_SCL {loss['scl']:.2f}  L_VLD {loss['vld']:.2f}"
    left = progress.get("eta_seconds")
    return f"{words}  {left:.0f} s" if left else words


class Counter(Protocol):
    def __call__(self, done: int) -> None: ...


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Counter]:
    """A bar for `total` things of one kind; call what is yielded with how many more are done."""
    with _bar(console) as bar:
        task = bar.add_task(what, total=total, rest=f"0 of {total}")
        done_so_far = 0

        def count(done: int) -> None:
            nonlocal done_so_far
            done_so_far += done
            bar.update(task, completed=done_so_far, rest=f"{done_so_far} of {total}")

        yield count
    if not console.is_terminal:
        console.print(f"  {what:<10} {total} pictures")


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(12),
        TaskProgressColumn(),
        TextColumn("{task.fields[rest]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
