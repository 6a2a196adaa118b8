"""The frozen run of benchmarks/plans/frozen.md: its predictions, and what came out.

    python -m benchmarks.accuracy.frozen --data clothing cifar10 clipart

Runs are stored below --out and not repeated. With --half, those with all classes trained are left out, and
so are their predictions.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import Trial, run
from benchmarks.accuracy.measures import Difference
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.report import RESULTS, write_page
from benchmarks.accuracy.tables import SERVED, STOCK, Runs, Table, collect, compared, figure, signed
from benchmarks.accuracy.trials import base_to_new, few_shot, fewer_tests
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.methods.common.registry import METHODS
from benchmarks.methods.common.task import Method
from benchmarks.methods.fair import FAIR
from core.clip.models.backbone import Backbone

FIRST_TEST = {"clothing": 61, "cifar10": 61}
"""The first test image per class that is used; other sets are used from the first on."""
TESTS = 60
SPLITS, SEEDS, COUNTS = range(20, 25), range(20, 22), (1, 4, 16)
HALF = ("stock", "preview", "clip_cite", "ft_probe", "ft_probe-ensemble")
ALL = ("stock", "preview", "clip_cite", "ft_probe", "linear_probe-searched", "tip_adapter-searched")
FUNCTIONS: Mapping[str, Method] = {**METHODS, **FAIR}
SHOWN = ("B", "N", "HM", "mixed HM", "all")
PREVIEW, FT_PROBE, FT_PROBE_OFFSETS = "Preview", "FT-Probe", "FT-Probe + WiSE-FT, balanced"
RIVALS = (FT_PROBE, "Linear probe, searched", "Tip-Adapter-F, searched")


@dataclass(frozen=True)
class Prediction:
    """`ours` less `theirs` in a measure is at least `least`; or its interval is above 0, too."""

    measure: str
    ours: str
    theirs: str
    least: float
    significant: bool = False

    def holds(self, difference: Difference) -> bool:
        above = difference.low > 0 if self.significant else True
        return difference.value >= self.least and above


PREDICTIONS = (
    Prediction("B", SERVED, STOCK, 0.12, significant=True),
    Prediction("N", SERVED, STOCK, -0.01),
    Prediction("mixed HM", SERVED, STOCK, 0.06, significant=True),
    Prediction("all", SERVED, STOCK, 0.08, significant=True),
    Prediction("all", SERVED, FT_PROBE, 0.0),
    Prediction("all", SERVED, FT_PROBE_OFFSETS, -0.005),
    *(Prediction(f"{n} shots", SERVED, "the best rival", -0.01) for n in (16, 4, 1)),
    Prediction("B", PREVIEW, STOCK, 0.08),
)
"""Those of the plan, in its order."""


def trials_of(sets: Sequence[DataSet]) -> tuple[list[Trial], dict[int, list[Trial]]]:
    """Return the trials with half of the classes trained, and those with all, by shots."""
    half = [
        trial
        for data in sets
        for trial in base_to_new(data, shots=16, splits=SPLITS, seeds=SPLITS)
        if trial.seed == trial.split
    ]
    by_shots = {n: [t for data in sets for t in few_shot(data, shots=[n], seeds=SEEDS)] for n in COUNTS}
    return half, by_shots


def outcomes(half: Mapping[str, Runs], by_shots: Mapping[int, Mapping[str, Runs]]) -> Iterator[list[str]]:
    """Yield a row for each prediction."""
    for number, expected in enumerate(PREDICTIONS, 1):
        if expected.measure.endswith("shots"):
            if not by_shots:
                yield [str(number), expected.measure, *["not run"] * 3, condition_of(expected), "–"]
                continue
            runs = by_shots[int(expected.measure.split()[0])]
            measure = "B"
            theirs = max(RIVALS, key=lambda label: runs[label].means()["mean"]["B"])
        else:
            runs, measure, theirs = half, expected.measure, expected.theirs
        ours, other = runs[expected.ours], runs[theirs]
        found = compared(ours, other)["mean"][measure]
        yield [
            str(number),
            expected.measure,
            f"{expected.ours} − {theirs}",
            f"{figure(ours.means()['mean'][measure])} − {figure(other.means()['mean'][measure])}",
            signed(found),
            condition_of(expected),
            "yes" if expected.holds(found) else "**no**",
        ]


def condition_of(expected: Prediction) -> str:
    least = f"≥ {expected.least:+.3f}".replace("-", "−") if expected.least else "≥ 0"
    return f"{least}, interval above 0" if expected.significant else least


def by_set(half: Mapping[str, Runs], by_shots: Mapping[int, Mapping[str, Runs]]) -> Table:
    """Return the measures of each method, as the mean and by data set."""
    names = ["mean", *(name for name in half[STOCK].answers)]
    columns = [*SHOWN, *(f"{n} shots" for n in by_shots)]
    table = Table("By data set", ["set", "method", *columns])
    for name in names:
        for label in dict.fromkeys([*half, *(label for runs in by_shots.values() for label in runs)]):
            cells = []
            for measure in columns:
                runs = by_shots[int(measure.split()[0])] if measure.endswith("shots") else half
                values = runs[label].means()[name] if label in runs else {}
                cells.append(figure(values.get("B" if runs is not half else measure, np.nan)))
            table.rows.append([name, label, *cells])
    return table


def measured(
    methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> dict[str, Runs]:
    """Run the methods on the trials, unless they are stored, and return the runs by label."""
    for trial in trials:
        for method in methods:
            if run(method, FUNCTIONS[method], trial, backbone, out):
                print(trial.key(method), flush=True)
    return {runs.label: runs for runs in collect(methods, trials, backbone, out)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument("--out", type=Path, default=RESULTS / "frozen")
    parser.add_argument("--half", action="store_true", help="only the runs with half of the classes trained")
    parser.add_argument("--page", type=Path, help="page with the markers of the tables")
    parser.add_argument("--backbone", default="starter")
    parser.set_defaults(threads=None, device="auto")
    options = parser.parse_args(arguments)
    backbone = load_for(options)
    sets = [fewer_tests(load(folder), TESTS, FIRST_TEST.get(folder.name, 1)) for folder in options.data]
    of_half, of_all = trials_of(sets)
    half = measured(HALF, of_half, backbone, options.out)
    by_shots = {}
    if not options.half:
        by_shots = {n: measured(ALL, trials, backbone, options.out) for n, trials in of_all.items()}
    predictions = Table(
        "Predictions of the frozen run",
        ["#", "measure", "difference", "means", "measured", "predicted", "holds"],
        rows=list(outcomes(half, by_shots)),
        note=f"Means of {len(sets)} data sets. 95% intervals over splits (with all classes trained: seeds) "
        "and images.",
    )
    tables = {"frozen": predictions, "frozen-sets": by_set(half, by_shots)}
    write(
        list(tables.values()), f"frozen-{options.backbone.replace('/', '-')}", options.out, Console(width=160)
    )
    if options.page:
        write_page(tables, options.page)


if __name__ == "__main__":
    main()
