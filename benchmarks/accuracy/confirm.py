"""The served rules of requests against the rules before them: benchmarks/plans/discriminants.md.

    python -m benchmarks.accuracy.confirm --data clothing cifar10 stamps trashnet signs digits --tests 60
    --first-split 10 --splits 7 --few-shot-seeds 2 --first-few-shot-seed 9 --unrelated imagenet
    --page benchmarks/pages/requests.md

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out with --alphas
0.5. The rules are fixed, so nothing is chosen here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.accuracy import rules
from benchmarks.accuracy.measures import Difference
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.report import write_page
from benchmarks.accuracy.rescore import (
    Comparison,
    Outcomes,
    Runs,
    command_line,
    measured,
    read_runs,
    shown_measures,
)
from benchmarks.accuracy.rules import (
    PREVIEW,
    PREVIEW_WITH_PROTOTYPES,
    SERVED,
    STOCK,
    WITH_GAMMA,
    WITH_PROTOTYPES,
    Rule,
)
from benchmarks.accuracy.tables import Table, figure, signed

COUNTS = (1, 2, 4, 16)
OFFSETS = rules.today()
ARMS: Mapping[str, Mapping[str, Rule]] = {
    "closed": {"served": SERVED, "prototypes": WITH_PROTOTYPES, "offsets": OFFSETS, "stock": STOCK},
    "mixed": {"served": SERVED, "γ": WITH_GAMMA, "offsets": OFFSETS, "stock": STOCK},
    "foreign": {"served": SERVED, "offsets": OFFSETS, "stock": STOCK},
    "preview": {"served": PREVIEW, "prototypes": PREVIEW_WITH_PROTOTYPES, "stock": STOCK},
}
BEFORE = {"closed": WITH_PROTOTYPES, "mixed": OFFSETS, "foreign": STOCK, "preview": PREVIEW_WITH_PROTOTYPES}
"""The rule to which the served one is compared."""
TITLES = {
    "closed": "Closed requests",
    "mixed": "Mixed requests",
    "foreign": "Foreign requests",
    "preview": "Instant preview",
}
SERIES = ("closed", "preview")
"""Kinds that need the runs with all classes trained."""
KINDS_OF = {"B": "closed", "N": "foreign", "mixed HM": "mixed", "all": "mixed", "retention": "foreign"}
"""The measures of the served rules, with the kind of request of each."""


@dataclass(frozen=True)
class Criterion:
    """A condition on the difference of a measure to the rule before."""

    measure: str
    least: float = 0.0
    significant: bool = False
    """The interval must lie above `least`, not only the difference."""

    @property
    def needed(self) -> str:
        least = f"{self.least:+.3f}".replace("-", "−") if self.least else "0"
        return f"interval above {least}" if self.significant else f"≥ {least}"

    def holds(self, comparison: Comparison, names: Sequence[str]) -> bool:
        value, low, _ = difference(comparison, self.measure, names)
        return low > self.least if self.significant else value >= self.least


def criteria(kind: str) -> list[Criterion]:
    """Return the conditions of the plan. Foreign requests have none: their rule is the earlier plan's."""
    if kind in SERIES:
        few = [Criterion(f"{n} shots", -0.005) for n in COUNTS[:-1]]
        closed = [Criterion(f"{COUNTS[-1]} shots", significant=True), *few, Criterion("B", -0.003)]
        return closed if kind == "closed" else [*closed, Criterion("all", -0.005)]
    if kind == "mixed":
        return [
            Criterion("all", significant=True),
            Criterion("mixed HM", -0.005),
            Criterion("mixed retention", -0.005),
        ]
    return []


def difference(comparison: Comparison, measure: str, names: Sequence[str]) -> tuple[float, float, float]:
    """Return served − before with its interval, as the mean over these sets."""
    ours, theirs = ARMS[comparison.kind]["served"], BEFORE[comparison.kind]
    return comparison.interval(dict.fromkeys(names, ours), dict.fromkeys(names, theirs), measure)


def adopted(comparison: Comparison, names: Sequence[str]) -> bool:
    """Say whether these data sets adopt the rule of the kind. An incomplete series adopts nothing."""
    return is_complete(comparison) and all(c.holds(comparison, names) for c in criteria(comparison.kind))


def is_complete(comparison: Comparison) -> bool:
    """Say whether the comparison has all series of its kind."""
    return comparison.kind not in SERIES or all(runs.by_shots for runs in comparison.sets.values())


def of_preview(kind: str, rule: Rule, runs: Runs) -> dict[str, list[Outcomes]]:
    return measured("closed", rule, runs) | measured("mixed", rule, runs)


def decision(comparison: Comparison) -> Table:
    kind, names = comparison.kind, list(comparison.sets)
    arms = ARMS[kind]
    complete, decided = is_complete(comparison), adopted(comparison, names)
    others = [n for n in names if adopted(comparison, [m for m in names if m != n]) != decided]
    result = "adopted" if decided else "dropped" if complete else "incomplete"
    about = f" Decision: {result}; another one without {', '.join(others) or 'none of the sets'}."
    table = Table(
        f"{TITLES[kind]}: mean of {len(names)} sets",
        ["measure", *arms, "difference", "needed", "holds"],
        note="95% intervals over splits and images, sets fixed. The difference is served less "
        + next(label for label, rule in arms.items() if rule == BEFORE[kind])
        + f".{about if criteria(kind) else ''}",
    )
    means = {label: comparison.mean(dict.fromkeys(names, rule)) for label, rule in arms.items()}
    conditions = {c.measure: c for c in criteria(kind)} if complete else {}
    for measure in shown_measures(means["served"]):
        cells = [figure(row[measure]) for row in means.values()]
        shown = signed(Difference(*difference(comparison, measure, names)))
        condition = conditions.get(measure)
        needed = ["–", "–"]
        if condition:
            needed = [condition.needed, "yes" if condition.holds(comparison, names) else "**no**"]
        table.rows.append([measure, *cells, shown, *needed])
    return table


def overview(comparisons: Mapping[str, Comparison]) -> Table:
    """Return the measures of the served rules, with the differences to stock and to the offsets alone."""
    names = list(next(iter(comparisons.values())).sets)
    table = Table(
        f"Served rules: mean of {len(names)} sets, the difference to stock, and that to offsets",
        ["", *KINDS_OF],
        note="95% intervals over splits and images, sets fixed. *Offsets* is one rule for all requests: text "
        "features and the offsets of balance 0.35.",
    )
    for label, rule in (("stock", STOCK), ("offsets", OFFSETS), ("**served**", SERVED)):
        cells = []
        for measure, kind in KINDS_OF.items():
            comparison, ours = comparisons[kind], dict.fromkeys(names, rule)
            lines = [figure(comparison.mean(ours)[measure])]
            for other in (STOCK, OFFSETS):
                if rule not in (STOCK, other):
                    interval = comparison.interval(ours, dict.fromkeys(names, other), measure)
                    lines.append(signed(Difference(*interval)))
            cells.append("<br>".join(lines))
        table.rows.append([label, *cells])
    return table


def by_set(comparisons: Mapping[str, Comparison]) -> Table:
    names = list(next(iter(comparisons.values())).sets)
    few = [f"{n} shots" for n in COUNTS]
    kinds = {**KINDS_OF, "mixed retention": "mixed", "one new": "mixed", **dict.fromkeys(few, "closed")}
    table = Table("By set", ["set", "rule", *kinds])
    for name in names:
        for label, rule in (("stock", STOCK), ("offsets", OFFSETS), ("served", SERVED)):
            rows = {measure: comparisons[kind].values[rule][name] for measure, kind in kinds.items()}
            cells = [figure(row[m]) if m in row else "–" for m, row in rows.items()]
            table.rows.append([name, label, *cells])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument(
        "--first-few-shot-seed", type=int, help="first seed with all classes trained (default --first-split)"
    )
    options = parser.parse_args(arguments)
    sets = read_runs(options, load_for(options), COUNTS, first_seed=options.first_few_shot_seed)
    complete = all(
        len(runs.by_shots.get(n, [])) == options.few_shot_seeds for runs in sets.values() for n in COUNTS
    )
    if not complete:  # a part of the sets is no mean over six sets
        for runs in sets.values():
            runs.by_shots.clear()
    comparisons = {
        kind: Comparison(kind, list(arms.values()), sets, of_preview if kind == "preview" else measured)
        for kind, arms in ARMS.items()
    }
    tables = {"kinds-served": overview(comparisons)}
    tables |= {f"kinds-{kind}": decision(comparison) for kind, comparison in comparisons.items()}
    stored = [*tables.values(), by_set(comparisons)]
    write(stored, f"kinds-{options.backbone.replace('/', '-')}", options.out, Console(width=160))
    if options.page:
        write_page(tables, options.page)


if __name__ == "__main__":
    main()
