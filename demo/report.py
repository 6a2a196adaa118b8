"""The result of the demo as text and as a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.clip.evaluation.accuracy import Interval
from demo.compare import Comparison, Result, disagreements


def rows(result: Result) -> list[tuple[str, Comparison]]:
    """Return the rows of the table, a label and a comparison each. Without new classes there is one row."""
    trained, new = len(result.images.trained_classes), len(result.images.new_classes)
    comparison = result.comparison
    all_classes = f"all {trained + new} classes"
    if not new:
        return [(all_classes, comparison.mixed)]
    labelled = [
        (f"{trained} trained classes", comparison.trained),
        (f"{new} new class{'es' if new > 1 else ''}", comparison.new),
        (all_classes, comparison.mixed),
        ("  images of trained classes", comparison.mixed_trained),
        ("  images of new classes", comparison.mixed_new),
    ]
    return [(label, c) for label, c in labelled if c is not None]


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def points(difference: Interval) -> str:
    """Return a text such as `+16.2 [+11.3, +21.1]`, in percentage points."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def verdict_words(result: Result) -> str:
    """Return the verdict over all classes."""
    words = {
        "better": "better than stock",
        "no_clear_gain": "no clear gain",
        "worse": "no clear gain (worse than stock)",
    }[result.verdict]
    return f"{words}, {points(result.main_difference)} points with all {len(result.images.names)} classes"


def harmonic_mean(base: float, new: float) -> float:
    """Return HM = 2BN / (B + N), the main metric of the base-to-new setting."""
    return 2 * base * new / (base + new) if base + new else 0.0


def show(console: Console, result: Result, title: str) -> None:
    """Print the table and the verdict."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("candidate classes")
    for column in ("images", "stock", "adapted"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("difference, 95% CI", justify="right", no_wrap=True)
    for label, comparison in rows(result):
        difference = comparison.difference()
        colour = "green" if difference.low > 0 else "red" if difference.high < 0 else ""
        table.add_row(
            label,
            str(len(comparison.stock_correct)),
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
            f"Harmonic mean of trained and new classes: {percent(stock)} stock, {percent(adapted)} adapted.",
            highlight=False,
        )
    differences = disagreements(result)
    if differences:
        console.print("[yellow]The metrics of the job differ:[/] " + "; ".join(differences), highlight=False)
    else:
        console.print("The metrics of the job agree with these numbers.", highlight=False)
    console.print(f"[bold]Verdict: {verdict_words(result)}.[/]", highlight=False)
