"""What was found in images before a training, on a terminal."""

from rich.console import Console
from rich.markup import escape

from clipcite.cli.render.tables import duration, table_of
from clipcite.client.report_types import Estimate, Preflight

MAX_FINDINGS = 30


def show_preflight(console: Console, found: Preflight) -> None:
    table = table_of("class", "images", "to test")
    for one in found.classes:
        table.add_row(escape(one.name), str(one.images), str(one.test_images or ""))
    console.print(table)
    for warning in found.warnings:
        console.print(f"[yellow]note[/]     {escape(warning.detail)}", soft_wrap=True)
    for finding in found.findings[:MAX_FINDINGS]:
        console.print(f"[yellow]look[/]     {escape(finding.file)}: {escape(finding.detail)}", soft_wrap=True)
    if len(found.findings) > MAX_FINDINGS:
        rest = len(found.findings) - MAX_FINDINGS
        console.print(f"[dim]and {rest} more findings: --json has all[/]", soft_wrap=True)
    console.print(f"good     {found.good} of {found.images} images")
    console.print(f"takes    {_takes(found.estimate)}", soft_wrap=True)
    if not found.acceptable:
        console.print(
            "[red]It would be refused[/] for the images that can't be read: remove them, or go on without "
            "them with --on-bad-image skip.",
            soft_wrap=True,
        )


def _takes(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return escape(estimate.basis) or "nobody knows yet"
    low, high = (duration(s) for s in (estimate.low_seconds or 0, estimate.high_seconds or estimate.seconds))
    return f"about {duration(estimate.seconds)} ({low} to {high}). {escape(estimate.basis)}"
