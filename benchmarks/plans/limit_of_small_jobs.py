"""Limits of something else on stored features (limit-of-small-jobs.md).

    python -m benchmarks.plans.limit_of_small_jobs --few FOLDER

FOLDER has the runs with 5 shots and 30 steps (`benchmarks.accuracy.encodings --shots 5 --min-steps 30`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy import stats

from benchmarks.accuracy.pile import CHECK, CHOSEN, PILES, REST, UNSURE, Job, drawn, measured, today
from benchmarks.accuracy.rules import stored_series
from benchmarks.accuracy.tables import Table, figure
from benchmarks.run_store import runs_parser
from core.clip.inference import pile
from core.clip.inference.pile import Floats

Limit = Callable[[Floats, float], float]


def served(left_out: Floats, lost: float) -> float:
    return float(np.quantile(left_out, lost))


def rank(left_out: Floats, lost: float) -> float:
    return float(np.sort(left_out)[max(int(lost * (len(left_out) + 1)), 1) - 1])


def spread(left_out: Floats, lost: float) -> float:
    n = len(left_out)
    if n < 2:
        return -np.inf
    t = stats.t.ppf(1 - lost, n - 1)
    return float(left_out.mean() - t * left_out.std(ddof=1) * np.sqrt(1 + 1 / n))


LIMITS: Mapping[str, Limit] = {"served": served, "rank": rank, "spread": spread}


def main() -> None:
    parser = runs_parser(__doc__)
    parser.add_argument("--few", type=Path, required=True)
    options = parser.parse_args()
    series = {
        "5 shots": stored_series(options.backbone, options.few)["half, 5 shots"],
        "16 shots": stored_series(options.backbone, options.out)["half, 16 shots"],
    }
    for shots, runs in series.items():
        for half, sets in (("chosen", CHOSEN), ("check", CHECK)):
            found: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
            jobs = [(name, Job(run, split)) for (name, split), run in sorted(runs.items()) if name in sets]
            for name, job in jobs:
                for kind in PILES:
                    drawn_pile = drawn(job, kind)
                    best, sure = today(job, drawn_pile)
                    labels = {"without": np.where(sure >= UNSURE, best, REST)}
                    alone = {}
                    for arm, limit in LIMITS.items():
                        pile.limit_of = limit
                        labels[arm] = pile.something_else(job.support, drawn_pile.images).label
                        alone[f"{arm}, alone"] = pile.alone(job.support, drawn_pile.images).label
                    for arm, label in (labels | alone).items():
                        row = measured(drawn_pile, label)
                        found.setdefault((arm, kind), {}).setdefault(name, []).append(row)
            table = Table(f"{shots}, {half}, {len(jobs)} jobs: P / let / kept, worst kept", ["limit", *PILES])
            for arm in dict.fromkeys(arm for arm, _ in found):
                cells = []
                for kind in PILES:
                    means = {
                        m: [np.mean([row[m] for row in rows]) for rows in found[arm, kind].values()]
                        for m in ("P", "let", "kept")
                    }
                    text = " / ".join(figure(float(np.nanmean(v))) for v in means.values())
                    cells.append(f"{text}, {figure(float(min(means['kept'])))}")
                table.rows.append([arm, *cells])
            Console(width=250).print(table.markdown() + "\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
