"""Accuracy with fewer shots in every second class, of stored runs.

for pair in "16 2" "2 2" "16 16" "16 8" "4 1" "4 4"; do set -- $pair
    python -m benchmarks.accuracy.paper --data clothing cifar10 trashnet --tests 60 --first-split 50 --methods
    clip_cite --shots $1 --fewer $2 --out benchmarks/results
done
python -m benchmarks.accuracy.unequal --out benchmarks/results
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import stored_scores
from benchmarks.accuracy.tables import SERVED, Table, figure
from benchmarks.run_store import RunStore, runs_parser

PAIRS = ((2, 2), (16, 2), (16, 8), (16, 16), (4, 1), (4, 4))
"""Shots per class in one half of the classes and in the other."""
KEY = re.compile(r"(.+/split\d+)-seed\d+-(\d+)shots-\d+classes-\d+tests-(\d+)fewer/clip_cite")


def table_of(store: RunStore) -> Table:
    """Return the accuracy of closed requests, as the mean over sets, where all pairs of a set are stored."""
    found: dict[tuple[int, int], dict[str, list[float]]] = defaultdict(dict)
    for key in store.names():
        if (match := KEY.fullmatch(key)) and (run := store.get(key)) is not None:
            (test,) = run.record["tests"]
            scores = stored_scores(run, f"{SERVED}@{test}")
            hits = scores.correct_within_kind()
            few = np.isin(scores.truth, scores.trained[::2])
            row = [float(hits[few].mean()), float(hits[scores.is_trained].mean())]
            found[int(match[2]), int(match[3])][match[1]] = row
    pairs = [pair for pair in PAIRS if pair in found]
    sets = sorted(set.intersection(*(set(found[pair]) for pair in pairs))) if pairs else []
    table = Table(f"Closed requests, {len(sets)} runs each", ["shots in each half", "fewer", "all"])
    for pair in pairs if sets else []:
        means = np.mean([found[pair][name] for name in sets], axis=0)
        table.rows.append([" / ".join(map(str, pair)), *(figure(float(x)) for x in means)])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    options = runs_parser(__doc__).parse_args(arguments)
    store = RunStore(options.out, f"methods-{options.backbone.replace('/', '_')}")
    Console(width=160).print(table_of(store).markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
