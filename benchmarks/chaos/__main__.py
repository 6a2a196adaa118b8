"""Mixed faults on the real service, and checks that no job is lost.

    python -m benchmarks.chaos --jobs 200 --faults 20 --seed 1

Runs many small jobs under faults drawn by the seed, once per store, and then checks invariants. It starts its
own servers (see tests/servers.py) and leaves nothing running. The exit status is 1 if an invariant is broken.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.storm import Outcome, run_mixed
from benchmarks.chaos.world import STORES


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.chaos"
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES), help="(default: all)")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=7200, help="time limit (seconds, default 7,200)")
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    broken: list[str] = []
    for store in options.stores:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            how = {"seed": options.seed, "jobs": options.jobs, "faults": options.faults}
            outcome = run_mixed(store, Path(folder), **how, until=until)
        print(f"\n{table(f'{STORES[store]}, seed {options.seed}', outcome)}\n", flush=True)
        broken += [f"{store}: {f.name}: {item}" for f in outcome.findings for item in f.broken]
    print("\n".join(broken))
    return 1 if broken else 0


def table(title: str, outcome: Outcome) -> str:
    rows = {
        "jobs": sum(outcome.statuses.values()),
        "faults": sum(outcome.faults.values()),
        **{f"– {kind}": count for kind, count in outcome.faults.items()},
        "processes restarted": outcome.restarts,
        "requests repeated by clients": outcome.retries,
        "ended as": _counts(outcome.statuses),
        "attempts: jobs": _counts(outcome.attempts),
        **{
            f"**{f.name}**": f"{len(f.broken)} of {f.checked} broken" if f.broken else f"holds ({f.checked})"
            for f in outcome.findings
        },
        "minutes": f"{outcome.seconds / 60:.1f}",
    }
    lines = [f"|  | {title} |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
