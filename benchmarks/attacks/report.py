"""Table of all rows, for one checkout or two."""

from collections.abc import Sequence

from benchmarks.attacks.measure import Outcome, Row

HEAD = ("row", "attack", "memory, MB", "CPU, × honest", "answers", "bytes", "another client waits, s", "")
Results = Sequence[tuple[Row, Sequence[Outcome]]]


def table(results: Results) -> str:
    """Return a Markdown table. Cells of two checkouts are "before → after"; the verdict is of the second."""
    lines = [" | ".join(HEAD), " | ".join(["---"] * len(HEAD))]
    for row, outcomes in results:
        columns = [_cells(row, outcome) for outcome in outcomes]
        cells = [_both(values) for values in zip(*columns, strict=True)]
        last = outcomes[-1].over
        verdict = f"**over**: {'; '.join(last)}" if last else "ok"
        lines.append(" | ".join([row.name, row.title, *cells, verdict]))
    return "\n".join(f"| {line} |" for line in lines)


def _cells(row: Row, outcome: Outcome) -> list[str]:
    at_least = "> " if outcome.ended else ""
    memory = f"{at_least}+{outcome.growth / 1e6:,.0f}"
    if row.limits.scratch is not None:
        memory += f", disk {outcome.scratch / 1e6:,.0f}"
    cpu = (
        "–"
        if outcome.cpu is None
        else f"{at_least}{outcome.cpu:.2g}"
        if outcome.cpu < 10
        else _large(at_least, outcome)
    )
    counted = ", ".join(
        f"{status or 'closed'}" + (f" × {count}" if count > 1 else "")
        for status, count in sorted(outcome.statuses.items())
    )
    answers = "; ".join(filter(None, [counted, outcome.note, outcome.ended]))
    return [
        memory if not row.alone else "–",
        cpu,
        answers or "none",
        f"{outcome.answer:,}",
        _waits(outcome),
    ]


def _large(at_least: str, outcome: Outcome) -> str:
    assert outcome.cpu is not None
    return f"{at_least}{outcome.cpu:,.0f}"


def _waits(outcome: Outcome) -> str:
    if outcome.waits is None or outcome.waits_before is None:
        return "–"
    ratio = outcome.waits[0] / outcome.waits_before[0]
    longest = f"longest {outcome.waits[1]:.2f}, /healthz {outcome.health:.2f}"
    return f"{outcome.waits[0]:.2f} (× {ratio:.1f}), {longest}"


def _both(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else " → ".join(values)
