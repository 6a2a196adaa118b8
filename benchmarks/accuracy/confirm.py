"""One rule per kind of request against today's, by benchmarks/plans/three-kinds-confirmed.md.

    python -m benchmarks.accuracy.confirm --data clothing cifar10 stamps trashnet signs digits --tests 60
    --first-split 7 --splits 3 --few-shot-seeds 2 --unrelated imagenet --page benchmarks/pages/requests.md

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out with --alphas
0.5. The rules are fixed, so nothing is chosen here. In a row "leave-one-set-out", the other five sets decide
for each set between its rule and today's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.accuracy import rules
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.report import write_page
from benchmarks.accuracy.rescore import Comparison, command_line, read_runs, shown_measures
from benchmarks.accuracy.rules import CONFIRMED, STOCK, Rule
from benchmarks.accuracy.tables import Table, figure

COUNTS = (1, 2, 4, 16)
TODAY = rules.today()
PAIR = ("mixed HM", "all")
"""One of these must be better, the other not worse."""
KINDS_OF = {"B": "closed", "N": "foreign", "mixed HM": "mixed", "all": "mixed", "retention": "foreign"}
"""The measures of the served rules, with the kind of request of each."""


@dataclass(frozen=True)
class Criterion:
    """A condition on the difference of a measure."""

    measure: str
    least: float = 0.0
    significant: bool = False
    """The interval must lie above `least`, not only the difference."""
    against: Rule = TODAY

    @property
    def needed(self) -> str:
        least = f"{self.least:+.3f}".replace("-", "−") if self.least else "0"
        than = "stock" if self.against == STOCK else "today"
        return f"interval above {least} ({than})" if self.significant else f"≥ {least} ({than})"

    def holds(self, comparison: Comparison, names: Sequence[str]) -> bool:
        value, low, _ = self.difference(comparison, names)
        return low > self.least if self.significant else value >= self.least

    def difference(self, comparison: Comparison, names: Sequence[str]) -> tuple[float, float, float]:
        ours, theirs = (dict.fromkeys(names, r) for r in (CONFIRMED[comparison.kind], self.against))
        return comparison.interval(ours, theirs, self.measure)


def criteria(kind: str, better: str = PAIR[0]) -> list[Criterion]:
    """Return the conditions of the plan; `better` is the measure that must be better in mixed requests."""
    if kind == "closed":
        few = [Criterion(f"{n} shots", -0.005) for n in COUNTS[:-1]]
        return [Criterion(f"{COUNTS[-1]} shots", significant=True), *few, Criterion("B", -0.003)]
    if kind == "mixed":
        (other,) = (measure for measure in PAIR if measure != better)
        return [Criterion(better, significant=True), Criterion(other, -0.005)]
    return [Criterion("N", against=STOCK), Criterion("retention", -0.012, against=STOCK)]


def decisive(comparison: Comparison, names: Sequence[str]) -> list[Criterion]:
    """Return the conditions of the kind; of mixed requests those that hold, if any do."""
    choices = [criteria(comparison.kind, better) for better in PAIR]
    held = [choice for choice in choices if all(c.holds(comparison, names) for c in choice)]
    return (held or choices)[0]


def adopted(comparison: Comparison, names: Sequence[str]) -> bool:
    """Say whether these data sets adopt the rule of the kind. An incomplete series adopts nothing."""
    return is_complete(comparison) and all(c.holds(comparison, names) for c in decisive(comparison, names))


def is_complete(comparison: Comparison) -> bool:
    """Say whether the comparison has all series of its kind."""
    return comparison.kind != "closed" or all(runs.by_shots for runs in comparison.sets.values())


def decision(comparisons: Mapping[str, Comparison]) -> Table:
    table = Table(
        f"Decision: mean of {len(next(iter(comparisons.values())).sets)} sets, and the difference",
        ["kind", "measure", "rule", "today", "stock", "difference", "needed", "holds"],
        note="95% intervals over splits and images, sets fixed. "
        + "; ".join(f"{kind}: {CONFIRMED[kind].label}" for kind in comparisons)
        + f". Today: {TODAY.label}.",
    )
    for kind, comparison in comparisons.items():
        names = list(comparison.sets)
        means = {r: comparison.mean(dict.fromkeys(names, r)) for r in (CONFIRMED[kind], TODAY, STOCK)}
        complete = is_complete(comparison)
        conditions = {c.measure: c for c in decisive(comparison, names)} if complete else {}
        for measure in shown_measures(means[TODAY]):
            condition = conditions.get(measure, Criterion(measure))
            values = [figure(row[measure]) for row in means.values()]
            shown = _interval(*condition.difference(comparison, names))
            result = "yes" if condition.holds(comparison, names) else "**no**"
            needed = [condition.needed, result] if measure in conditions else ["–", "–"]
            table.rows.append([kind, measure, *values, shown, *needed])
        result = "adopted" if adopted(comparison, names) else "dropped" if complete else "incomplete"
        table.rows.append([f"**{kind}**", *[""] * 6, f"**{result}**"])
    return table


def served(comparisons: Mapping[str, Comparison]) -> Table:
    """Return the measures of the rules that are served, and those of leave-one-set-out decisions."""
    names = list(next(iter(comparisons.values())).sets)
    every = {kind: adopted(comparison, names) for kind, comparison in comparisons.items()}

    def chosen(label: str, kind: str) -> dict[str, Rule]:
        if label == "stock":
            return dict.fromkeys(names, STOCK)
        if label == "today":
            return dict.fromkeys(names, TODAY)
        if label == "served":
            return dict.fromkeys(names, CONFIRMED[kind] if every[kind] else TODAY)
        return {
            name: CONFIRMED[kind] if adopted(comparisons[kind], [n for n in names if n != name]) else TODAY
            for name in names
        }

    table = Table(
        f"Served rules: mean of {len(names)} sets, the difference to stock, and the difference to today",
        ["", *KINDS_OF],
        note="95% intervals over splits and images, sets fixed. Leave-one-set-out: for each set, the other "
        "sets decide between the rule and today's. " + "; ".join(differing(comparisons)) + ".",
    )
    for label in ("stock", "today", "served", "leave-one-set-out"):
        cells = []
        for measure, kind in KINDS_OF.items():
            comparison, ours = comparisons[kind], chosen(label, kind)
            lines = [figure(comparison.mean(ours)[measure])]
            for other in ("stock", "today"):
                if label not in ("stock", other):
                    lines.append(_interval(*comparison.interval(ours, chosen(other, kind), measure)))
            cells.append("<br>".join(lines))
        table.rows.append([f"**{label}**" if label == "served" else label, *cells])
    return table


def differing(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Return for each kind the sets without which the decision would be another."""
    found = []
    for kind, comparison in comparisons.items():
        names = list(comparison.sets)
        decided = adopted(comparison, names)
        others = [n for n in names if adopted(comparison, [m for m in names if m != n]) != decided]
        found.append(f"{kind}: another decision without {', '.join(others) or 'none of them'}")
    return found


def by_set(comparisons: Mapping[str, Comparison]) -> Table:
    names = list(next(iter(comparisons.values())).sets)
    few = [f"{n} shots" for n in COUNTS]
    table = Table("By set", ["set", "rule", *KINDS_OF, "mixed retention", *few])
    kinds = {**KINDS_OF, "mixed retention": "mixed", **dict.fromkeys(few, "closed")}
    for name in names:
        for label in ("stock", "today", "rules of the plan"):
            cells = []
            for measure, kind in kinds.items():
                rule = {"stock": STOCK, "today": TODAY}.get(label, CONFIRMED[kind])
                row = comparisons[kind].values[rule][name]
                cells.append(figure(row[measure]) if measure in row else "–")
            table.rows.append([name, label, *cells])
    return table


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line(__doc__).parse_args(arguments)
    sets = read_runs(options, load_for(options), COUNTS)
    complete = all(
        len(runs.by_shots.get(n, [])) == options.few_shot_seeds for runs in sets.values() for n in COUNTS
    )
    if not complete:  # a part of the sets is no mean over six sets
        for runs in sets.values():
            runs.by_shots.clear()
    comparisons = {
        kind: Comparison(kind, [*dict.fromkeys([rule, TODAY, STOCK])], sets)
        for kind, rule in CONFIRMED.items()
    }
    tables = {
        "kinds-decision": decision(comparisons),
        "kinds-served": served(comparisons),
        "kinds-by-set": by_set(comparisons),
    }
    write(
        list(tables.values()), f"kinds-{options.backbone.replace('/', '-')}", options.out, Console(width=160)
    )
    if options.page:
        write_page({name: tables[name] for name in ("kinds-decision", "kinds-served")}, options.page)


if __name__ == "__main__":
    main()
