"""Preflight results on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from clipcite.cli.render.tables import duration, print_table, table_of

if TYPE_CHECKING:
    from clipcite.wire.adapt import Estimate, Preflight

MAX_FINDINGS = 30


def show_preflight(console: Console, result: Preflight) -> None:
    """Print classes, findings and the estimate."""
    table = table_of("class", "images", "test images")
    for each in result.classes:
        table.add_row(escape(each.name), str(each.images), str(each.test_images or ""))
    print_table(console, table)
    for warning in result.warnings:
        console.print(f"[yellow]note[/]     {escape(warning.detail)}", soft_wrap=True)
    for finding in result.findings[:MAX_FINDINGS]:
        console.print(f"[yellow]finding[/]  {escape(finding.file)}: {escape(finding.detail)}", soft_wrap=True)
    if len(result.findings) > MAX_FINDINGS:
        rest = len(result.findings) - MAX_FINDINGS
        console.print(f"[dim]and {rest} more findings (all with --json)[/]", soft_wrap=True)
    console.print(f"usable   {result.good} of {result.images} images without findings")
    console.print(f"duration {_duration(result.estimate)}", soft_wrap=True)
    if result.estimate.memory_bytes:
        console.print(f"memory   {result.estimate.memory_bytes / 1e9:.1f} GB")
    if not result.acceptable:
        console.print(
            "[red]This upload would be rejected[/] because of unreadable images. Remove them, or skip them "
            "with --on-bad-image skip.",
            soft_wrap=True,
        )


def _duration(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return escape(estimate.basis) or "unknown"
    low, high = (duration(s) for s in (estimate.low_seconds or 0, estimate.high_seconds or estimate.seconds))
    return f"about {duration(estimate.seconds)} ({low} to {high}). {escape(estimate.basis)}"
