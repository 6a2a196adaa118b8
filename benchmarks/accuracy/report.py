"""Tables of the results page, from stored runs.

    python -m benchmarks.accuracy.report --data clothing cifar10 stamps --splits 5 --seeds 3 --tests 60

The runs below --out are those of benchmarks.accuracy.paper (bng, fsl, cdg), benchmarks.accuracy.ablations,
benchmarks.accuracy.curve and benchmarks.accuracy.sizes. The tables are written into benchmarks/README.md,
each between its markers `<!-- NAME -->` and `<!-- /NAME -->`. A method with fewer seeds than requested is
shown with the seeds that it has. A table without runs stays unchanged.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.ablations import ABLATIONS
from benchmarks.accuracy.curve import WATCHED, curve_table, is_watched
from benchmarks.accuracy.harness import Trial, results
from benchmarks.accuracy.measures import MEASURES, measure
from benchmarks.accuracy.paper import load_for, parser, read_trials
from benchmarks.accuracy.scores import BestScores
from benchmarks.accuracy.sizes import joined, sizes, sizes_table
from benchmarks.accuracy.tables import (
    BALANCED,
    OURS,
    STOCK,
    Table,
    collect,
    compared,
    cross_domain_table,
    figure,
    published_tables,
    signed,
)
from benchmarks.accuracy.trials import SHOT_COUNTS, cross_domain, few_shot, fewer_tests
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.methods.common.registry import METHODS
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.models.backbone import Backbone

PAGE = Path(__file__).parents[1] / "README.md"
Stored = Callable[[str, Trial], bool]


def complete(method: str, trials: Sequence[Trial], stored: Stored) -> list[Trial]:
    """Return the trials of the seeds for which a method has all data sets and splits."""
    seeds = sorted({trial.seed for trial in trials})
    whole = [seed for seed in seeds if all(stored(method, t) for t in trials if t.seed == seed)]
    return [trial for trial in trials if trial.seed in whole]


def base_to_new_table(
    by_method: dict[str, list[Trial]], backbone: Backbone, out: Path, names: Sequence[str]
) -> Table:
    """Return the means over the data sets, HM and mixed HM of each, and differences to stock."""
    shown = ("HM", "mixed HM", "all")
    table = Table(
        "Base-to-new and mixed: means over data sets",
        ["method", "runs", *MEASURES, "HM by data set", "mixed HM by data set"],
        note="Below HM, mixed HM and all: the difference to stock with its paired 95% interval. Data sets "
        f"in this order: {', '.join(names)}.",
    )
    for method, trials in by_method.items():
        stock = collect([STOCK], trials, backbone, out)[0]
        for runs in collect([method], trials, backbone, out):
            values = runs.means()
            against = compared(runs, stock)["mean"] if runs.label != STOCK else {}
            cells = [
                figure(values["mean"][m]) + (f"<br>{signed(against[m])}" if m in shown and against else "")
                for m in MEASURES
            ]
            by_data = [" / ".join(figure(values[n][m]) for n in names) for m in ("HM", "mixed HM")]
            count = sum(len(answers) for answers in runs.answers.values())
            table.rows.append([runs.label, str(count), *cells, *by_data])
    return table


def balance_table(trials: Sequence[Trial], backbone: Backbone, out: Path, names: Sequence[str]) -> Table:
    """Compare the default of `new_class_balance` with 0, and with the best constant γ of each run.

    That γ is chosen on the test images, so no method could know it.
    """
    runs = {r.label: r for r in collect(["clip_cite"], trials, backbone, out)}
    before, after = runs[OURS], runs[BALANCED]
    table = Table(f"new_class_balance {NEW_CLASS_BALANCE} against 0", ["", *MEASURES[:-1]])
    for name in [*names, "mean"]:
        a, b, gain = before.means()[name], after.means()[name], compared(after, before)[name]
        cells = [f"{a[m]:.3f} → {b[m]:.3f}<br>{signed(gain[m])}" for m in MEASURES[:-1]]
        table.rows.append([name, *cells])
    best = [np.mean([_hindsight(answers) for answers in before.answers[name]]) for name in names]
    table.note = (
        "Mixed HM with the one γ for each run that is best on its test images: "
        f"{', '.join(f'{name} {value:.3f}' for name, value in zip(names, best, strict=True))}; "
        f"mean {np.mean(best):.3f}."
    )
    return table


def _hindsight(answers: BestScores) -> float:
    once = np.ones((1, len(answers.truth)), dtype=np.int64)
    return max(float(measure(answers, once, gamma)["mixed HM"][0]) for gamma in np.arange(-0.05, 0.2, 0.01))


def few_shots_table(
    sets: Sequence[DataSet], seeds: Sequence[int], backbone: Backbone, out: Path, stored: Stored
) -> Table:
    table = Table(
        "Accuracy by shots per class, all classes trained", ["method", "seeds", *map(str, SHOT_COUNTS)]
    )
    wanted = [trial for data in sets for trial in few_shot(data, shots=SHOT_COUNTS, seeds=seeds)]
    for method in METHODS:
        trials = complete(method, wanted, stored)
        by_label: dict[str, list[str]] = {}
        for count in SHOT_COUNTS:
            for runs in collect([method], [t for t in trials if t.shots == count], backbone, out):
                by_label.setdefault(runs.label, []).append(f"{runs.means()['mean']['B']:.3f}")
        for label, cells in by_label.items():
            table.rows.append([label, str(len({t.seed for t in trials})), *cells])
    return table


def ablation_table(trials: Sequence[Trial], backbone: Backbone, out: Path, stored: Stored) -> Table:
    """Return all variants, with their difference to the product's recipe at α = 0.5."""
    kept = [n for n in ABLATIONS if n != STOCK and all(stored(f"ablation-{n}", t) for t in trials)]
    runs = [r for n in kept for r in collect([f"ablation-{n}"], trials, backbone, out)]
    product = next(r for r in runs if r.label == "α = 0.5")
    table = Table("Ablations: one thing changed", ["variant", *MEASURES, "HM − product's", "all − product's"])
    for one in runs:
        values = one.means()["mean"]
        against = compared(one, product)["mean"]
        gains = ["", ""] if one is product else [signed(against[m]) for m in ("HM", "all")]
        label = f"**{one.label}, the product**" if one is product else one.label
        table.rows.append([label, *(f"{values[m]:.3f}" for m in MEASURES), *gains])
    return table


def write_page(tables: dict[str, Table], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not block.search(text):
            raise SystemExit(
                f"{page} has no <!-- {name} --> … <!-- /{name} -->. Add these markers to the page."
            )
        filled = f"\n{table.markdown()}\n\n"
        text = block.sub(lambda found, filled=filled: found[1] + filled + found[2], text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, METHODS)
    command_line.add_argument("--page", type=Path, default=PAGE)
    command_line.add_argument("--ablation-splits", type=int, default=1)
    command_line.add_argument("--curve-splits", type=int, default=1)
    command_line.set_defaults(splits=5, seeds=3)
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    trials = read_trials(options)
    names = list(dict.fromkeys(trial.data.name for trial in trials))
    sets = list({trial.data.name: trial.data for trial in trials}.values())

    def stored(method: str, trial: Trial) -> bool:
        return any(True for _ in results(method, trial, backbone, options.out))

    by_method = {m: complete(m, trials, stored) for m in METHODS}
    by_method = {m: kept for m, kept in by_method.items() if kept}
    tables = {
        "bng": base_to_new_table(by_method, backbone, options.out, names),
        "balance": balance_table(by_method["clip_cite"], backbone, options.out, names),
        "published": published_tables([])[0],
    }
    few = few_shots_table(sets, range(options.seeds), backbone, options.out, stored)
    if few.rows:
        tables["fsl"] = few
    changed = [t for t in trials if t.split < options.ablation_splits and t.seed == 0]
    if all(stored("ablation-one_training", trial) for trial in changed):
        tables["ablations"] = ablation_table(changed, backbone, options.out, stored)
    once = [t for t in trials if t.split < options.curve_splits and t.seed == 0]
    if all(is_watched(method, trial, backbone, options.out) for method in WATCHED for trial in once):
        tables["curve"] = curve_table(list(WATCHED), once, backbone, options.out)
    every = sizes(joined([fewer_tests(load(folder), 20) for folder in options.data]), splits=2, seeds=1)
    if all(stored("clip_cite", trial) for trial in every):
        tables["sizes"] = sizes_table(every, backbone, options.out)
    if options.target:
        target = load(Path(options.target))
        target = fewer_tests(target, options.tests) if options.tests else target
        crossed = cross_domain(sets[0], target, shots=options.shots, splits=range(2), seeds=range(1))
        kept = [m for m in METHODS if all(stored(m, t) for t in crossed)]
        tables["cdg"] = cross_domain_table(kept, crossed, backbone, options.out)
    write_page(tables, options.page)


if __name__ == "__main__":
    main()
