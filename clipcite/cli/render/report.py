"""A report on a terminal, in plain words; as a page it has the images."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from rich.console import Console
from rich.markup import escape

from clipcite.cli.render.tables import table_of
from clipcite.client.report_types import Accuracies, Reliability, Report, ReportedImage

COLOURS = {"better": "green", "worse": "red", "no_clear_gain": "yellow", "not_measured": "yellow"}
MAX_IMAGES = 10
CLASSES = "Class by class, weakest first (recall: how many of its images get the name)"


def show_report(console: Console, report: Report) -> None:
    console.print(f"[bold {COLOURS.get(report.verdict, '')}]{escape(report.summary)}[/]", soft_wrap=True)
    for recommendation in report.recommendations:
        console.print(f"- {escape(recommendation.detail)}", soft_wrap=True)
    console.print(f"[dim]{escape(report.measured_on.how)}[/]", soft_wrap=True)
    _accuracies(console, report)
    _images(console, "Training images to look at: their labels may be wrong", report.label_issues, "labelled")
    _classes(console, report)
    _images(console, "Wrong answers, the surest first", report.mistakes, "is")
    _calibration(console, report.calibration)


def _accuracies(console: Console, report: Report) -> None:
    measured: list[tuple[str, Accuracies | None]] = [
        ("trained names", report.trained_classes),
        ("and other names", report.all_classes),
        ("new names", report.new_classes),
    ]
    table = table_of("named rightly", "images", "stock", "preview", "adapted", "gain, 95 %")
    for label, one in measured:
        if one is not None:
            gain = one.adapted_against_stock
            table.add_row(
                label,
                str(one.images),
                *(_share(each.value if each else None) for each in (one.stock, one.preview, one.adapted)),
                f"{100 * gain.value:+.0f} [{100 * gain.low:+.0f}, {100 * gain.high:+.0f}]" if gain else "–",
            )
    if table.rows:
        console.print()
        console.print(table)


def _classes(console: Console, report: Report) -> None:
    asked = [one for one in report.classes if one.recall is not None]
    if not asked:
        return
    table = table_of("class", "trained on", "asked about", "recall", "before", "precision")
    for one in sorted(asked, key=lambda one: one.recall or 0):
        shares = (_share(one.recall), _share(one.stock_recall), _share(one.precision))
        table.add_row(escape(one.name), str(one.trained_images), str(one.images), *shares)
    console.print(f"\n{CLASSES}")
    console.print(table)


def _images(console: Console, title: str, images: Iterable[ReportedImage], given: str) -> None:
    found = list(images)
    if not found:
        return
    table = table_of("image", given, "looks like", "how sure")
    for one in found[:MAX_IMAGES]:
        # The folders before it are the class, which is in the next column.
        name = PurePosixPath(one.file_name).name if one.file_name else f"number {one.position + 1}"
        table.add_row(*map(escape, (name, one.class_name, one.predicted, _share(one.probability))))
    console.print(f"\n{title}")
    console.print(table)
    if len(found) > MAX_IMAGES:
        console.print(f"[dim]and {len(found) - MAX_IMAGES} more: --json or --html has all[/]")


def _calibration(console: Console, fit: Reliability | None) -> None:
    if fit is None or fit.error_before is None:
        return
    off = f"Probabilities are off by {100 * fit.error_before:.0f} points on average"
    if fit.calibrated and fit.error_after is not None:
        said = f"{off}, and by {100 * fit.error_after:.0f} as they are corrected for the trained names."
    else:
        said = f"{off}; there were too few images to correct that."
    console.print(f"\n{said}", soft_wrap=True)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
