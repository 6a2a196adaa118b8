"""Results as tables and JSON, with one file per finished part so that it runs once."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.world import STORES

Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Result of one deterministic case."""

    case: str
    what: str
    expected: str
    measured: str
    good: bool
    seconds: float = 0.0


def kept(out: Path, name: str) -> Record | None:
    file = out / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def keep(out: Path, name: str, result: Any) -> Record:
    out.mkdir(parents=True, exist_ok=True)
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    record: Record = {**asdict(result), "machine": machine}
    part = out / f"{name}.json.part"
    part.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(out / f"{name}.json")
    return record


def mixed_tables(records: Sequence[Record]) -> str:
    """Return the table of mixed faults, with one column per run."""
    head = ["", *(f"{STORES[r['store']]}, seed {r['seed']}" for r in records)]
    rows = [
        ["jobs", *(str(r["jobs"]) for r in records)],
        ["faults", *(str(sum(r["faults"].values())) for r in records)],
    ]
    for kind in dict.fromkeys(kind for r in records for kind in r["faults"]):
        rows.append([f"– {kind}", *(str(r["faults"].get(kind, "–")) for r in records)])
    rows.append(["processes restarted", *(str(r["restarts"]) for r in records)])
    rows.append(["requests repeated by clients", *(str(r["retries"]) for r in records)])
    rows.append(["ended as", *(_counts(r["statuses"]) for r in records)])
    rows.append(["attempts: jobs", *(_counts(r["attempts"]) for r in records)])
    for number, finding in enumerate(records[0]["findings"]):
        rows.append([f"**{finding['name']}**", *(_verdict(r["findings"][number]) for r in records)])
    rows.append(["minutes", *(f"{r['seconds'] / 60:.1f}" for r in records)])
    return markdown(head, rows)


def case_table(records: Sequence[Record]) -> str:
    rows = [
        [r["case"], r["what"], r["expected"], r["measured"] + ("" if r["good"] else " **(not met)**")]
        for r in records
    ]
    return markdown(["#", "case", "expected", "measured"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def good(record: Record) -> bool:
    if "findings" in record:
        return not any(finding["broken"] for finding in record["findings"])
    return bool(record["good"])


def order(record: Record) -> tuple[int, str]:
    """Return a sort key: the number of the case, with the final check last."""
    found = re.match(r"\d+", record["case"])
    return (int(found.group()) if found else 1000, record["case"])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _verdict(finding: Record) -> str:
    broken = len(finding["broken"])
    return f"{broken} of {finding['checked']} broken" if broken else f"holds ({finding['checked']})"
