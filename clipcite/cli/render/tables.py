"""Tables of jobs, models and predictions on a terminal."""

from collections.abc import Iterable
from datetime import datetime

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clipcite.client.types import (
    Alias,
    Classification,
    Comparison,
    ImageResult,
    JobData,
    Loss,
    Metrics,
    ModelData,
    Progress,
)

VERDICTS = {
    "better": "[green]better[/] than the stock model",
    "no_clear_gain": "[yellow]no clear gain[/] over the stock model: add images, or use stock",
    "worse": "[red]worse[/] than the stock model: use stock, or a smaller alpha",
    "not_evaluated": "not evaluated: add images to test/, or set --holdout 0.2",
}
STATUS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "dim"}
LONG = {"name", "classes", "class", "image", "predicted", "labelled", "true class", "verdict"}
"""Columns whose text may wrap."""
TWO_IDS = 120
NAMES_AND_MORE = 100
BARS = "▁▂▃▄▅▆▇█"


def job_table(jobs: Iterable[JobData], width: int) -> Table:
    """Return a table of jobs. Narrow terminals omit the last columns."""
    names = ("job", "name", "status", "created (UTC)", "images", "model")
    table = table_of(*names[: 6 if width >= TWO_IDS else 5 if width >= NAMES_AND_MORE else 4])
    for job in jobs:
        cells = (
            job.id,
            escape(job.name or ""),
            _status(job),
            _time(job.created_at),
            str(sum(c.images for c in job.classes)),
            job.model_id or "",
        )
        table.add_row(*cells[: len(table.columns)])
    return table


def model_table(models: Iterable[ModelData], width: int) -> Table:
    """Return a table of models. Narrow terminals omit the last columns."""
    names = ("model", "name", "classes", "verdict", "α", "created")
    table = table_of(*names[: 6 if width >= NAMES_AND_MORE else 4])
    for model in models:
        cells = (
            model.id,
            escape(_display_name(model)),
            escape(_names(model.trained_classes)),
            model.metrics.verdict.replace("_", " ") if model.metrics else "",
            f"{model.alpha:g}",
            f"{model.created_at:%Y-%m-%d}",
        )
        table.add_row(*cells[: len(table.columns)])
    return table


def alias_table(aliases: Iterable[Alias]) -> Table:
    """Return a table of aliases."""
    table = table_of("alias", "version", "model", "changed (UTC)")
    for alias in aliases:
        changed = _time(alias.history[0].at) if alias.history else ""
        table.add_row(escape(alias.reference), str(alias.version), alias.model, changed)
    return table


def facts(pairs: Iterable[tuple[str, str | None]]) -> Table:
    """Return a table of names and values, without empty values."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value:
            table.add_row(f"[dim]{name}[/]", value)
    return table


def job_facts(job: JobData) -> Table:
    """Return the details of a job."""
    classes = ", ".join(
        f"{escape(c.name)} {c.images}" + (f"+{c.test_images}" if c.test_images else "") for c in job.classes
    )
    place = f", position {job.queue_position} in the queue" if job.queue_position else ""
    return facts(
        [
            ("job", job.id),
            ("name", escape(job.name or "")),
            ("status", _status(job) + place),
            ("classes", classes),
            ("progress", escape(progress_words(job.progress)) if job.progress and not job.finished else None),
            ("created", _time(job.created_at)),
            ("finished", _time(job.finished_at) if job.finished_at else None),
            ("model", job.model_id),
            ("error", escape(f"{job.error.detail} ({job.error.code})") if job.error else None),
        ]
    )


def model_facts(model: ModelData) -> Table:
    """Return the details of a model."""
    prompts = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in model.prompts.items())
    return facts(
        [
            ("model", model.id),
            ("name", escape(_display_name(model))),
            ("backbone", escape(model.backbone)),
            ("classes", escape(", ".join(model.trained_classes))),
            ("alpha", f"{model.alpha:g}"),
            ("templates", escape("; ".join(model.templates))),
            ("prompts", escape(prompts)),
            ("size", f"{model.bytes / 1e6:.1f} MB"),
            ("job", model.job_id or "none (imported)"),
            ("created", _time(model.created_at)),
        ]
    )


def metrics_table(metrics: Metrics) -> Table | None:
    """Return the accuracies (percent) of the stock and the adapted model, or None if not measured."""
    all_classes = metrics.all_classes
    rows: list[tuple[str, Comparison | None]] = [
        ("trained classes", metrics.trained_classes),
        ("new classes", metrics.new_classes),
        # Without new classes, this row would repeat the first.
        ("all classes", all_classes.all if all_classes and metrics.new_classes else None),
    ]
    if not any(compared for _, compared in rows):
        return None
    table = table_of("accuracy", "stock", "adapted", "difference, 95% CI")
    for name, compared in rows:
        if compared is not None:
            difference = compared.difference
            table.add_row(
                name,
                f"{100 * compared.stock:.1f}%",
                f"{100 * compared.adapted:.1f}%",
                f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
                if difference
                else "",
            )
    return table


def verdict(metrics: Metrics) -> str:
    """Return the verdict in one line, with markup."""
    on = metrics.measured_on
    where = f" (on {on.images} images, {on.source})" if on.images else ""
    return f"{VERDICTS.get(metrics.verdict, escape(metrics.verdict))}{where}"


def classification_table(answer: Classification) -> Table:
    """Return a table of predictions."""
    table = table_of("image", "class", "probability", "similarity")
    for result in answer.results:
        _add(table, result)
    return table


def _add(table: Table, result: ImageResult) -> None:
    file = Text(result.file or "")
    if result.error is not None:
        table.add_row(file, Text(result.error.detail, style="red"), "", "")
    for place, prediction in enumerate(result.predictions):
        name = Text(prediction.class_name, style="bold" if place == 0 else "")
        name.append(" new" if prediction.kind == "new" else "", style="dim")
        table.add_row(
            file if place == 0 else "",
            name,
            f"{100 * prediction.probability:.1f}%",
            f"{prediction.similarity:.3f}",
        )


def progress_words(progress: Progress) -> str:
    """Return a line such as `training, epoch 3 of 10, DVA 0.61 SCL 0.80 VLD 0.41, 12 s left`."""
    words = [progress.stage]
    if progress.stage == "training":
        if progress.epoch and progress.epochs:
            words.append(f"epoch {progress.epoch} of {progress.epochs}")
        if progress.loss is not None:
            words.append(loss_words(progress.loss))
    if progress.eta_seconds:
        words.append(f"{duration(progress.eta_seconds)} left")
    return ", ".join(words)


def loss_words(loss: Loss) -> str:
    return f"DVA {loss.dva:.2f} SCL {loss.scl:.2f} VLD {loss.vld:.2f}"


def sparkline(values: list[float], width: int = 12) -> str:
    """Return the last `width` values as a line of bars."""
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in shown)


def duration(seconds: float) -> str:
    """Return a duration such as `42 s`, `3 min 20 s` or `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _status(job: JobData) -> str:
    return f"[{STATUS.get(job.status, '')}]{job.status}[/]" if job.status in STATUS else escape(job.status)


def table_of(*columns: str) -> Table:
    """Return an empty table without lines. Names may wrap, ids and numbers never do."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column not in LONG, overflow="fold")
    return table


def _display_name(model: ModelData) -> str:
    """Return a name such as `shoes@3, prod`: name, version and aliases."""
    if model.name is None:
        return ""
    return ", ".join(
        [model.name if model.version is None else f"{model.name}@{model.version}", *model.aliases]
    )


def _names(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
