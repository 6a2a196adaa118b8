"""The verdict on a model in words, its accuracies, and how good a sort is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from clipcite.types.piles import PileSort
    from clipcite.types.problems import Notice
    from clipcite.types.report import Metrics

COLOURS = {
    **dict.fromkeys(("better", "probably_better"), "green"),
    **dict.fromkeys(("worse", "probably_worse"), "red"),
    "evaluating": "cyan",
}
"""Colour of each verdict. The others are yellow."""


def verdict(metrics: Metrics | None) -> str:
    """Return the verdict with its numbers in one line, with markup."""
    if metrics is None:
        return "[yellow]Ready, not evaluated.[/] To get a verdict, add images to test/."
    title, *numbers = map(escape, metrics.sentences or [f"{metrics.verdict}."])
    if metrics.verdict == "not_evaluated":
        numbers.append("To get a verdict, add images to test/.")
    colour = COLOURS.get(metrics.verdict, "yellow")
    return " ".join([f"[{colour}]{title}[/]", *numbers])


def not_in_use(model_id: str, reason: Notice) -> str:
    """Return why a model's name does not refer to it, and how to change that, with markup."""
    command = f"[bold]clipcite models use {model_id}[/]"
    detail = escape(reason.detail[:1].lower() + reason.detail[1:])
    return f"[yellow]Not in use:[/] {detail} Use it all the same: {command}"


def short_verdict(metrics: Metrics | None, *, with_gain: bool) -> str:
    """Return a verdict for a table, such as `better 94% (+16)`."""
    if metrics is None:
        return ""
    everything = metrics.all_classes.all if metrics.all_classes else None
    compared, words = everything or metrics.trained_classes, metrics.verdict.replace("_", " ")
    if compared is None:
        return words
    words = words.replace("clear gain", "difference")
    gain = f" ({100 * (compared.adapted - compared.stock):+.0f})" if with_gain else ""
    return f"{words} {100 * compared.adapted:.0f}%{gain}"


def measured_words(result: PileSort) -> str:
    """Return the service's sentence on how good a sort is, or how to measure it."""
    from clipcite.types.piles import NOT_MEASURED  # loads pydantic, which help does not need

    if result.sentence and result.sentence != NOT_MEASURED:
        return result.sentence
    return "Not measured yet. `clipcite sort FOLDER --check 20` tells you how much is in the right place."
