"""Cost of hostile requests to a fresh service.

    python -m benchmarks.attacks --markdown
    python -m benchmarks.attacks --rows A1,A2 --against ../another-checkout

Each row starts its own API process on a new database, measures an honest request and another client, attacks,
and kills the process. Memory is the growth of the process's peak. CPU time is that of one attack as a
multiple of the honest request's, without the other client's share. With `--against`, each row also runs
against that checkout, and the table has before → after. The exit status is 1 if this checkout exceeds a
limit.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.attacks import archives, connections, doors, images, rights, texts
from benchmarks.attacks.measure import Outcome, Row, measure
from benchmarks.attacks.report import table
from benchmarks.attacks.service import Tree, prepare
from tests.core.clip.tiny import make_tiny_backbone

PARTS = (images, texts, archives, rights)
REPEATED = (connections, doors)
"""Parts whose attacks may be multiplied by `--times`."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    small = options.scale == "small"
    repeated = [row for part in REPEATED for row in part.rows(small, options.times)]
    rows = chosen([row for part in PARTS for row in part.rows(small)] + repeated, options.rows)
    results: list[tuple[Row, list[Outcome]]] = []
    with tempfile.TemporaryDirectory(prefix="attacks-") as name:
        folder = Path(name)
        cache = options.cache or folder / "cache"
        backbones = {"CLIPCITE_BACKBONE": make_tiny_backbone(folder / "tiny")}
        trees: list[Tree] = []
        if options.against is not None:
            trees.append(prepare(options.against.resolve(), folder / "before", cache))
        trees.append(prepare(options.tree and options.tree.resolve(), folder / "after", cache))
        for row in rows:
            outcomes = [measure(row, tree, backbones, small=small, memory=options.memory) for tree in trees]
            results.append((row, outcomes))
            if not options.markdown:
                print(table([(row, outcomes)]).splitlines()[-1], flush=True)
            keep(options.out, options.scale, results)
    print(table(results))
    return 1 if any(outcomes[-1].over for _, outcomes in results) else 0


def chosen(rows: Sequence[Row], names: str | None) -> list[Row]:
    """Return the rows of these names, or all.

    Raises:
        SystemExit: no row has one of the names.
    """
    if names is None:
        return list(rows)
    wanted = [name.strip() for name in names.split(",")]
    unknown = set(wanted) - {row.name for row in rows}
    if unknown:
        known = ", ".join(row.name for row in rows)
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}; the rows are {known}.")
    return [row for row in rows if row.name in wanted]


def keep(folder: Path, scale: str, results: Sequence[tuple[Row, Sequence[Outcome]]]) -> None:
    """Write everything measured so far to `attacks.json`."""
    listed = [
        {
            "row": row.name,
            "attack": row.title,
            "limits": asdict(row.limits),
            "outcomes": [outcome.to_dict() for outcome in outcomes],
        }
        for row, outcomes in results
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attacks.json").write_text(json.dumps({"scale": scale, "rows": listed}, indent=2) + "\n")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.attacks"
    )
    parser.add_argument("--rows", help="comma-separated names (default: all)")
    parser.add_argument(
        "--scale",
        choices=["small", "full"],
        default="full",
        help="small takes minutes, with weaker evidence (default full)",
    )
    parser.add_argument(
        "--times", type=int, default=1, help="multiple of the clients of A18, A19 and D3 to D6"
    )
    parser.add_argument(
        "--memory", type=int, help="limit of the service's memory (bytes), by a control group"
    )
    parser.add_argument("--tree", type=Path, help="checkout to attack, with its .venv (default: this one)")
    parser.add_argument("--against", type=Path, help="checkout to compare with, with its .venv")
    parser.add_argument("--cache", type=Path, help="folder with the assembled starter (default: a new one)")
    parser.add_argument("--markdown", action="store_true", help="print the table only")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the services are stopped
    sys.exit(main())
