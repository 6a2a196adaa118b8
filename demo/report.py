"""The result in words and in a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.clip.evaluation.accuracy import Interval
from demo.compare import Comparison, Result, disagreements


def rows(result: Result) -> list[tuple[str, Comparison]]:
    """What is compared, the headline last. Without new names one row says it all."""
    trained, new = len(result.images.trained_classes), len(result.images.new_classes)
    comparison = result.comparison
    all_classes = f"all {trained + new} names together"
    if not new:
        return [(all_classes, comparison.mixed)]
    found = [
        (f"{trained} base names (trained)", comparison.trained),
        (f"{new} new name{'s' if new > 1 else ''}", comparison.new),
        (all_classes, comparison.mixed),
        ("  of these, base", comparison.mixed_trained),
        ("  of these, new", comparison.mixed_new),
    ]
    return [(what, c) for what, c in found if c is not None]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(difference: Interval) -> str:
    """ "+16.2 [+11.3, +21.1]", in percentage points."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def verdict_words(result: Result) -> str:
    """What the measurement says, all names together. `worse` is no gain either, and is said."""
    words = {
        "better": "better than stock",
        "no_clear_gain": "no clear gain",
        "worse": "no clear gain (worse than stock)",
    }[result.verdict]
    return f"{words}, {points(result.headline)} points with all {len(result.images.names)} names"


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2BN / (B + N), the headline of the base-to-new setting."""
    return 2 * base * new / (base + new) if base + new else 0.0


def show(console: Console, result: Result, title: str) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("names to choose from")
    for column in ("images", "stock", "adapted"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("difference, 95 %", justify="right", no_wrap=True)
    for what, comparison in rows(result):
        difference = comparison.difference()
        colour = "green" if difference.low > 0 else "red" if difference.high < 0 else ""
        table.add_row(
            what,
            str(len(comparison.stock_right)),
            percent(comparison.stock),
            percent(comparison.adapted),
            Text(points(difference), style=colour),
            style="bold" if comparison is result.comparison.mixed else "",
        )
    console.print(table)
    base, new = result.comparison.trained, result.comparison.new
    if base is not None and new is not None:
        stock, adapted = harmonic_mean(base.stock, new.stock), harmonic_mean(base.adapted, new.adapted)
        console.print(
            f"Harmonic mean of base and new: {percent(stock)} stock, {percent(adapted)} adapted.",
            highlight=False,
        )
    found = disagreements(result)
    if found:
        console.print("[yellow]The job's own measurement differs:[/] " + "; ".join(found), highlight=False)
    else:
        console.print("The job's own measurement agrees with these figures.", highlight=False)
    console.print(f"[bold]Verdict: {verdict_words(result)}.[/]", highlight=False)
