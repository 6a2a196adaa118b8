"""The tables of the results page, from what the other benchmarks have stored.

    python -m benchmarks.accuracy.report --data clothing cifar10 stamps --splits 5 --seeds 3 --tests 60

Reads what benchmarks.accuracy.paper (bng, fsl, cdg), benchmarks.accuracy.ablations,
benchmarks.accuracy.curve and benchmarks.accuracy.sizes left below --out and writes the tables into
benchmarks/README.md, each between its two marks `<!-- NAME -->` and `<!-- /NAME -->`. A method with fewer
seeds than were asked for is shown with what there is, and a table of which nothing is left stays as it is.
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
from benchmarks.accuracy.scores import Answers
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
from benchmarks.accuracy.trials import FEW_SHOTS, cross_domain, few_shot, fewer_tests
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.methods.common.registry import METHODS
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.models.backbone import Backbone

PAGE = Path(__file__).parents[1] / "README.md"
Stored = Callable[[str, Trial], bool]


def complete(method: str, trials: Sequence[Trial], stored: Stored) -> list[Trial]:
    """The trials of the seeds for which a method has all data sets and splits."""
    seeds = sorted({trial.seed for trial in trials})
    whole = [seed for seed in seeds if all(stored(method, t) for t in trials if t.seed == seed)]
    return [trial for trial in trials if trial.seed in whole]


def base_to_new_table(
    by_method: dict[str, list[Trial]], backbone: Backbone, out: Path, names: Sequence[str]
) -> Table:
    """Means over the data sets, HM and mixed HM of each, and differences to stock for the headlines."""
    shown = ("HM", "mixed HM", "all")
    table = Table(
        "Base-to-new and mixed: means over data sets",
        ["method", "runs", *MEASURES, "HM by data set", "mixed HM by data set"],
        note="Below HM, mixed HM and all: the difference to stock with its paired 95 % interval. Data sets "
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
    """With the default of `new_class_balance` and with 0, the paired difference, and the best constant γ
    of each run, which only who has the test images can know."""
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


def _hindsight(answers: Answers) -> float:
    once = np.ones((1, len(answers.truth)), dtype=np.int64)
    return max(float(measure(answers, once, gamma)["mixed HM"][0]) for gamma in np.arange(-0.05, 0.2, 0.01))


def few_shots_table(
    sets: Sequence[DataSet], seeds: Sequence[int], backbone: Backbone, out: Path, stored: Stored
) -> Table:
    table = Table("Accuracy by shots a class, all classes trained", ["method", "seeds", *map(str, FEW_SHOTS)])
    wanted = [trial for data in sets for trial in few_shot(data, shots=FEW_SHOTS, seeds=seeds)]
    for method in METHODS:
        trials = complete(method, wanted, stored)
        by_label: dict[str, list[str]] = {}
        for count in FEW_SHOTS:
            for runs in collect([method], [t for t in trials if t.shots == count], backbone, out):
                by_label.setdefault(runs.label, []).append(f"{runs.means()['mean']['B']:.3f}")
        for label, cells in by_label.items():
            table.rows.append([label, str(len({t.seed for t in trials})), *cells])
    return table


def ablation_table(trials: Sequence[Trial], backbone: Backbone, out: Path, stored: Stored) -> Table:
    """Every variant, with the difference to the product's recipe at α = 0.5."""
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
            raise SystemExit(f"{page} has no <!-- {name} --> … <!-- /{name} --> to fill.")
        filled = f"\n{table.markdown()}\n\n"
        text = block.sub(lambda found, filled=filled: found[1] + filled + found[2], text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__, METHODS)
    options.add_argument("--page", type=Path, default=PAGE)
    options.add_argument("--ablation-splits", type=int, default=1)
    options.add_argument("--curve-splits", type=int, default=1)
    options.set_defaults(splits=5, seeds=3)
    given = options.parse_args(arguments)
    backbone = load_for(given)
    trials = read_trials(given)
    names = list(dict.fromkeys(trial.data.name for trial in trials))
    sets = list({trial.data.name: trial.data for trial in trials}.values())

    def stored(method: str, trial: Trial) -> bool:
        return any(True for _ in results(method, trial, backbone, given.out))

    by_method = {m: complete(m, trials, stored) for m in METHODS}
    by_method = {m: kept for m, kept in by_method.items() if kept}
    tables = {
        "bng": base_to_new_table(by_method, backbone, given.out, names),
        "balance": balance_table(by_method["clip_cite"], backbone, given.out, names),
        "published": published_tables([])[0],
    }
    few = few_shots_table(sets, range(given.seeds), backbone, given.out, stored)
    if few.rows:
        tables["fsl"] = few
    changed = [t for t in trials if t.split < given.ablation_splits and t.seed == 0]
    if all(stored("ablation-one_training", trial) for trial in changed):
        tables["ablations"] = ablation_table(changed, backbone, given.out, stored)
    once = [t for t in trials if t.split < given.curve_splits and t.seed == 0]
    if all(is_watched(method, trial, backbone, given.out) for method in WATCHED for trial in once):
        tables["curve"] = curve_table(list(WATCHED), once, backbone, given.out)
    every = sizes(joined([fewer_tests(load(folder), 20) for folder in given.data]), splits=2, seeds=1)
    if all(stored("clip_cite", trial) for trial in every):
        tables["sizes"] = sizes_table(every, backbone, given.out)
    if given.target:
        target = load(Path(given.target))
        target = fewer_tests(target, given.tests) if given.tests else target
        crossed = cross_domain(sets[0], target, shots=given.shots, splits=range(2), seeds=range(1))
        kept = [m for m in METHODS if all(stored(m, t) for t in crossed)]
        tables["cdg"] = cross_domain_table(kept, crossed, backbone, given.out)
    write_page(tables, given.page)


if __name__ == "__main__":
    main()
