"""Fault injection into the real service, and checks that no job is lost.

    python -m benchmarks.chaos --jobs 200 --faults 20 --seed 1
    python -m benchmarks.chaos --cases

The first command runs many small jobs under mixed faults, drawn by the seed, and then checks invariants
(`--stores sqlite`: only on SQLite). The second runs single cases one by one (`--cases 2 5`: only
these). Both start their own servers (see tests/servers.py) and leave nothing running. Finished parts are
stored below --out and not repeated; remove the folder to repeat them. The exit status is 1 if a check failed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos import report
from benchmarks.chaos.cases.all import CASES, TESTED, run_cases
from benchmarks.chaos.mixed import run_mixed
from benchmarks.chaos.world import STORES


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    until = time.monotonic() + options.seconds
    records = mixed(options, until) if options.cases is None else cases(options, until)
    return 0 if all(report.good(record) for record in records) else 1


def mixed(options: argparse.Namespace, until: float) -> list[report.Record]:
    records = []
    for store in options.stores:
        name = f"mixed-{store}-seed{options.seed}-{options.jobs}jobs-{options.faults}faults"
        record = report.kept(options.out, name)
        if record is None:
            with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
                outcome = run_mixed(
                    store,
                    Path(folder),
                    seed=options.seed,
                    jobs=options.jobs,
                    faults=options.faults,
                    until=until,
                )
            record = report.keep(options.out, name, outcome)
        records.append(record)
    show(report.mixed_tables(records), options.out / "mixed.md")
    for record in records:
        for finding in record["findings"]:
            for broken in finding["broken"]:
                print(f"{record['store']}: {finding['name']}: {broken}")
    return records


def cases(options: argparse.Namespace, until: float) -> list[report.Record]:
    wanted = [case.number for case in CASES if not options.cases or case.number in options.cases]
    missing = [number for number in wanted if report.kept(options.out, _file(options.seed, number)) is None]
    for row in run_cases(missing, seed=options.seed, until=until):
        print(f"{row.case}: {row.what}: {row.measured} ({row.seconds:.0f} s)", flush=True)
        report.keep(options.out, _file(options.seed, row.case), row)
    kept = [report.kept(options.out, _file(options.seed, number)) for number in [*wanted, "all"]]
    tested = [
        report.Record(case=number, what=what, expected=expected, measured=f"`{test}`", good=True)
        for number, what, expected, test in TESTED
    ]
    records = sorted([*filter(None, kept), *tested], key=report.order)
    show(report.case_table(records), options.out / "cases.md")
    left = [number for number, record in zip(wanted, kept, strict=False) if record is None]
    if left:
        print(f"Not run before the time limit: {', '.join(left)}. Run the same command to continue.")
    return records


def _file(seed: int, number: str) -> str:
    return f"case-{number.replace(', ', '+')}-seed{seed}"


def show(table: str, file: Path) -> None:
    print(f"\n{table}\n")
    file.write_text(table + "\n", encoding="utf-8")
    print(f"Written: {file}, and JSON beside it.")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.chaos"
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES), help="(default: all)")
    parser.add_argument("--cases", nargs="*", metavar="NUMBER", help="run single cases: all, or these")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=7200, help="time limit (seconds, default 7,200)")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results/chaos"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
