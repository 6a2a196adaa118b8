"""The verdict on a model in words, and its accuracies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from clipcite.types.problems import Notice
    from clipcite.types.report import ComparedAccuracies, Interval, MeasuredOn, Metrics


def verdict(metrics: Metrics | None) -> str:
    """Return the verdict with its numbers in one line, with markup."""
    if metrics is not None and metrics.verdict == "evaluating":
        return "[cyan]Ready, evaluating.[/] The verdict follows."
    if metrics is None or metrics.verdict == "not_evaluated":
        return "[yellow]Ready, not evaluated.[/] To get a verdict, add images to test/."
    compared = _compared(metrics)
    colour = "green" if metrics.verdict in {"better", "probably_better"} else "yellow"
    words = f"[{colour}]{_title(metrics)}.[/]"
    if compared is None:
        return words
    line = (
        f"{words} {100 * compared.adapted:.0f}% correct{_likely(compared)}"
        f"{_evaluated_on(metrics.measured_on)}, {_direction(compared)} {100 * compared.stock:.0f}%"
        f"{_points(compared.difference)}"
    )
    new = metrics.all_classes.new if metrics.all_classes else None
    if new is None:
        return line
    numbers = f"{100 * new.adapted:.0f}%, {_direction(new)} {100 * new.stock:.0f}%"
    return f"{line}. Of the new classes alone: {numbers}"


def not_in_use(model_id: str, reason: Notice) -> str:
    """Return why a model's name does not refer to it, and how to change that, with markup."""
    command = f"[bold]clipcite models use {model_id}[/]"
    detail = escape(reason.detail[:1].lower() + reason.detail[1:])
    return f"[yellow]Not in use:[/] {detail} Use it all the same: {command}"


def _title(metrics: Metrics) -> str:
    """Return the title of an evaluated model's verdict: the web page and the report have the same ones."""
    if metrics.verdict == "no_clear_gain":
        return "No measurable difference"
    return metrics.verdict.replace("_", " ").capitalize()


def _compared(metrics: Metrics) -> ComparedAccuracies | None:
    """Return the accuracies that the verdict is about."""
    everything = metrics.all_classes.all if metrics.all_classes else None
    return everything or metrics.trained_classes


def _direction(compared: ComparedAccuracies) -> str:
    if compared.adapted == compared.stock:
        return "unchanged from"
    return "down from" if compared.adapted < compared.stock else "up from"


def _likely(compared: ComparedAccuracies) -> str:
    if compared.interval is None:
        return ""
    low, high = compared.interval
    return f" (likely {100 * low:.0f} to {100 * high:.0f})"


def _evaluated_on(measured: MeasuredOn) -> str:
    if measured.source == "test":
        return f" on your {measured.images} test images"
    of = "" if measured.images == measured.trained_images else f"{measured.images} of "
    return f", estimated from {of}your {measured.trained_images} training images"


def _points(difference: Interval | None) -> str:
    if difference is None:
        return ""
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    return f" ({value:+.0f} points, 95% CI {low:+.0f} to {high:+.0f})"


def short_verdict(metrics: Metrics | None, *, with_gain: bool) -> str:
    """Return a verdict for a table, such as `better 94% (+16)`."""
    if metrics is None:
        return ""
    compared = _compared(metrics)
    if compared is None:
        return metrics.verdict.replace("_", " ")
    words = _title(metrics).lower().replace("measurable ", "")
    gain = f" ({100 * (compared.adapted - compared.stock):+.0f})" if with_gain else ""
    return f"{words} {100 * compared.adapted:.0f}%{gain}"
