"""Tables: of jobs and models on a terminal, and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table

from clipcite.cli.connection import print_json, stdout
from clipcite.cli.render.verdict import short_verdict
from clipcite.datasets.image import printable

if TYPE_CHECKING:
    from clipcite.types.base import Resource
    from clipcite.types.jobs import Job, Progress
    from clipcite.types.models import Alias, Model
    from clipcite.types.piles import Pile

Shown = TypeVar("Shown", bound="Resource")
STATUS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "dim"}
LONG = {"name", "classes", "class", "image", "predicted", "labelled", "true class"}
"""Columns whose text may wrap, between words."""
WIDE = 100
"""Width (columns) from which the tables show all columns."""
MAX_WIDTH = 100_000
"""Width (columns) that no table has."""
MAX_WORD = 32
"""Length of the words that are never broken, such as ids. Longer ones fold where space is short."""
ID_END = 6
"""Characters of a short id, from its end: the start is the time, which neighbours share."""


def job_table(jobs: Iterable[Job], width: int) -> Table:
    """Return a table of jobs. Narrow terminals omit columns."""
    wide = width >= WIDE
    more = ("images", "created (UTC)", "model") if wide else ()
    table = table_of("name", "status", *more, "job")
    for job in jobs:
        images = str(sum(c.images for c in job.classes))
        extra = (images, _time(job.created_at), short_id(job.model_id or "")) if wide else ()
        table.add_row(escape(job.name or "–"), _status(job), *extra, short_id(job.id))
    return table


def model_table(models: Iterable[Model], width: int) -> Table:
    """Return a table of models. Narrow terminals omit columns. A model without a name is shown by its id."""
    wide = width >= WIDE
    table = table_of("name", "verdict", *(("classes", "α", "created") if wide else ()), "model")
    for model in models:
        names = model.trained_classes
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        extra = (escape(shown), f"{model.alpha:g}", f"{model.created_at:%Y-%m-%d}") if wide else ()
        table.add_row(
            escape(_display_name(model) or model.id),
            short_verdict(model.metrics, with_gain=wide),
            *extra,
            short_id(model.id),
        )
    return table


def pile_table(piles: Iterable[Pile], width: int) -> Table:
    """Return a table of piles. Narrow terminals omit columns."""
    wide = width >= WIDE
    table = table_of("name", "images", "labelled", *(("size", "used (UTC)") if wide else ()), "pile")
    for pile in piles:
        counts = f"{pile.counts.images:,}", f"{pile.counts.labelled:,}"
        extra = (f"{pile.bytes / 1e6:.1f} MB", _time(pile.used_at)) if wide else ()
        table.add_row(escape(printable(pile.name)), *counts, *extra, short_id(pile.id))
    return table


def short_id(whole: str) -> str:
    """Return the end of an id. `--json` prints the whole one."""
    return whole[-ID_END:]


def alias_table(aliases: Iterable[Alias]) -> Table:
    """Return a table of aliases."""
    table = table_of("alias", "version", "model", "changed (UTC)")
    for alias in aliases:
        changed = _time(alias.history[0].at) if alias.history else ""
        table.add_row(escape(alias.reference), str(alias.version), alias.model, changed)
    return table


def facts(pairs: Iterable[tuple[str, str | None]]) -> Table:
    """Return a table of names and values, without empty values."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for name, value in pairs:
        if value:
            table.add_row(f"[dim]{name}[/]", value)
    return table


def queue_place(position: int) -> str:
    """Return a position in the queue in words. The service reports at most 1,000."""
    return f"position {position:,}{'' if position < 1_000 else ' or later'} in the queue"


def job_facts(job: Job) -> Table:
    """Return the details of a job."""
    classes = ", ".join(
        f"{escape(c.name)} {c.images}" + (f"+{c.test_images}" if c.test_images else "") for c in job.classes
    )
    place = f", {queue_place(job.queue_position)}" if job.queue_position else ""
    return facts(
        [
            ("name", escape(job.name or "")),
            ("status", _status(job) + place),
            ("classes", classes),
            ("progress", escape(progress_words(job.progress)) if job.progress and not job.finished else None),
            ("created", _time(job.created_at)),
            ("finished", _time(job.finished_at) if job.finished_at else None),
            ("error", escape(f"{job.error.detail} ({job.error.code})") if job.error else None),
            ("model", job.model_id),
            ("job", job.id),
        ]
    )


def model_facts(model: Model) -> Table:
    """Return the details of a model."""
    prompts = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in model.prompts.items())
    return facts(
        [
            ("name", escape(_display_name(model))),
            ("backbone", escape(model.backbone)),
            ("classes", escape(", ".join(model.trained_classes))),
            ("strength (α)", f"{model.alpha:g}"),
            ("templates", escape("; ".join(model.templates))),
            ("prompts", escape(prompts)),
            ("size", f"{model.bytes / 1e6:.1f} MB"),
            ("created", _time(model.created_at)),
            ("model", model.id),
            ("job", model.job_id or "none (imported)"),
        ]
    )


def pile_facts(pile: Pile) -> Table:
    """Return the details of a pile."""
    counts = pile.counts
    return facts(
        [
            ("name", escape(printable(pile.name))),
            ("images", f"{counts.images:,}" + ("" if pile.keeps_images else ", as features only")),
            ("labelled", f"{counts.labelled:,}, {counts.drawn:,} of them drawn at random"),
            ("classes", escape(printable(", ".join(pile.class_names)))),
            ("sorted by", escape(printable(pile.model))),
            ("size", f"{pile.bytes / 1e6:.1f} MB"),
            ("used", _time(pile.used_at)),
            ("kept until", _time(pile.deleted_at) if pile.deleted_at else None),
            ("pile", pile.id),
        ]
    )


def progress_words(progress: Progress) -> str:
    """Return a line such as `Training, epoch 3 of 10, 12 s left`."""
    words: list[str] = [progress.doing or progress.stage]
    if progress.phase == "steps" and progress.epochs:
        words.append(f"epoch {progress.epoch} of {progress.epochs}")
    if progress.eta_seconds:
        words.append(f"{duration(progress.eta_seconds)} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Return a duration such as `42 s`, `3 min 20 s` or `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _status(job: Job) -> str:
    return f"[{STATUS.get(job.status, '')}]{job.status}[/]" if job.status in STATUS else escape(job.status)


def table_of(*columns: str) -> Table:
    """Return an empty table without lines. Names may wrap, ids and numbers never do."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column not in LONG, overflow="fold")
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table whose ids, numbers and short words stay whole: it may be wider than the terminal.

    Off a terminal, nothing wraps.
    """
    before, unlimited = console.width, console.options.update(width=MAX_WIDTH)
    least = len(table.columns) * (table.padding[1] + table.padding[3])
    for column in table.columns:
        cells = [Measurement.get(console, unlimited, cell) for cell in (column.header, *column.cells)]
        column.min_width = max(cell.maximum for cell in cells)
        if console.is_terminal and not column.no_wrap:
            column.min_width = min(MAX_WORD, max(cell.minimum for cell in cells))
        least += column.min_width
    console.width = max(before, least)
    console.print(table, crop=False)
    console.width = before


def print_rows(
    rows: Sequence[Shown], table: Callable[[Sequence[Shown], int], Table], *, as_json: bool
) -> None:
    """Print objects of the service as JSON, or as a table for the width of the console."""
    if as_json:
        print_json([row.raw for row in rows])
    else:
        console = stdout()
        print_table(console, table(rows, console.width))


def _display_name(model: Model) -> str:
    """Return a name such as `shoes@3, prod`: name, version and aliases."""
    if model.name is None:
        return ""
    version = model.name if model.version is None else f"{model.name}@{model.version}"
    return ", ".join([version, *model.aliases, *(["not in use"] if model.not_promoted else [])])


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
