"""The share of the levels in the offsets, with few trained classes: benchmarks/plans/few-classes.md.

    python -m benchmarks.accuracy.few_classes --data clothing cifar10 stamps trashnet signs digits --tests 60
    --classes 2 --first-split 42 --splits 3 --unrelated imagenet

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from benchmarks.accuracy import rules
from benchmarks.accuracy.measures import Difference
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.rescore import Comparison, command_line, read_runs
from benchmarks.accuracy.rules import Rule
from benchmarks.accuracy.tables import Table, figure, signed

WHOLE_FROM = 5
"""With K trained classes, the plan's rule counts levels K/5. The product does so up to three classes."""
ARMS: Mapping[str, tuple[Rule, Rule]] = {
    name: (whole, replace(whole, whole_from=WHOLE_FROM))
    for name, whole in {"adapted model": rules.SERVED, "instant preview": rules.PREVIEW}.items()
}
"""The rule with whole levels, and the rule of the plan."""
LEAST: Mapping[str, Mapping[str, float]] = {
    "adapted model": {"mixed HM": 0.0, "all": -0.003, "one new": -0.015, "mixed retention": -0.003},
    "instant preview": {"mixed HM": -0.003, "all": -0.003},
}
"""The least difference of each measure. The adapted model's mixed HM needs its interval above it."""
SHOWN = ("mixed B", "mixed N", "mixed HM", "all", "one new", "mixed retention")


def holds(name: str, differences: Mapping[str, Difference]) -> bool:
    """Say whether the rule of the plan meets its conditions."""
    if name == "adapted model" and not differences["mixed HM"].low > 0:
        return False
    return all(m in differences and differences[m].value >= least for m, least in LEAST[name].items())


def table_of(comparison: Comparison, classes: int) -> Table:
    """Return the measures of both rules with the difference, and mixed HM and accuracy of each set."""
    names = list(comparison.sets)
    stock = comparison.mean(dict.fromkeys(names, rules.STOCK))
    shown = [m for m in SHOWN if m in stock]
    table = Table(
        f"{classes} trained classes: mean of {len(names)} sets",
        ["rule", *shown, *(f"{name}: mixed HM / all" for name in names), "adopted"],
        note="Below: the difference to whole levels, with 95% intervals over splits and images, sets fixed.",
    )

    def row(label: str, rule: Rule, cells: Sequence[str], adopted: str) -> None:
        of_sets = [comparison.values[rule][name] for name in names]
        table.rows.append(
            [label, *cells, *(f"{figure(v['mixed HM'])} / {figure(v['all'])}" for v in of_sets), adopted]
        )

    row("stock", rules.STOCK, [figure(stock[m]) for m in shown], "")
    for name, (whole, share) in ARMS.items():
        before, after = (dict.fromkeys(names, rule) for rule in (whole, share))
        differences = {m: Difference(*comparison.interval(after, before, m)) for m in shown}
        old, new = comparison.mean(before), comparison.mean(after)
        row(f"{name}, whole levels", whole, [figure(old[m]) for m in shown], "")
        cells = [f"{figure(new[m])}<br>{signed(differences[m])}" for m in shown]
        row(
            f"{name}, {classes}/{WHOLE_FROM} of them",
            share,
            cells,
            "yes" if holds(name, differences) else "**no**",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line(__doc__).parse_args(arguments)
    if options.classes is None:
        raise SystemExit("The number of trained classes is missing. Add --classes 2.")
    sets = read_runs(options, load_for(options), ())
    comparison = Comparison("mixed", [rules.STOCK, *(rule for arms in ARMS.values() for rule in arms)], sets)
    table = table_of(comparison, options.classes)
    write([table], f"few-classes-{options.classes}", options.out, Console(width=200))


if __name__ == "__main__":
    main()
