"""The rule of mixed requests, chosen by leave-one-set-out: benchmarks/plans/mixed-requests.md.

    python -m benchmarks.accuracy.mixed --data clothing cifar10 stamps trashnet signs digits --tests 60
    --first-split 7 --splits 10 --unrelated imagenet --page benchmarks/pages/requests.md

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out with --alphas
0.5.
"""

from collections.abc import Sequence

from rich.console import Console

from benchmarks.accuracy import rules
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.report import write_page
from benchmarks.accuracy.rescore import Comparison, command_line, name_of, read_runs, tables_of
from benchmarks.accuracy.tables import Table, figure

LEAST = -0.005
"""Smallest allowed difference of a measure that need not rise."""
PAIR = ("mixed HM", "all")
"""One of these must rise, with an interval above 0."""
RETENTION = "mixed retention"


def decision(comparison: Comparison) -> Table:
    """Compare the rules chosen on the other sets with the rule before."""
    names = list(comparison.sets)
    chosen, before = comparison.left_out(), dict.fromkeys(names, rules.today())
    best = comparison.best(names)
    differences = {m: comparison.interval(chosen, before, m) for m in (*PAIR, RETENTION)}
    rises = [m for m in PAIR if differences[m][1] > 0]
    adopted = bool(rises) and all(value >= LEAST for value, _, _ in differences.values())
    runs = len(next(iter(comparison.sets.values())).half)
    table = Table(
        f"Mixed requests by leave-one-set-out: mean of {len(names)} sets of {runs} splits",
        ["measure", "chosen on the other sets", "rule before", "difference", "needed"],
        note=f"95% intervals over splits and images, sets fixed. Best on all sets: {name_of(best)}. "
        f"Rule before: {name_of(rules.today())}.",
    )
    means, before_means = comparison.mean(chosen), comparison.mean(before)
    for measure, (value, low, high) in differences.items():
        needed = "one of these: interval above 0; both ≥ −0.005" if measure in PAIR else "≥ −0.005"
        shown = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
        table.rows.append([measure, figure(means[measure]), figure(before_means[measure]), shown, needed])
    result = f"adopted: {name_of(best)}" if adopted else "the rule before stays"
    table.rows.append([f"**{result}**", "", "", "", ""])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line(__doc__).parse_args(arguments)
    if not options.unrelated:
        raise SystemExit("The decision needs mixed retention. Add --unrelated.")
    sets = read_runs(options, load_for(options), ())
    comparison = Comparison("mixed", rules.mixed_rules_at_half(), sets)
    decided = decision(comparison)
    by_rule, *others = tables_of(comparison)
    tables = [decided, by_rule, *others]
    write(tables, f"mixed-{options.backbone.replace('/', '-')}", options.out, Console(width=160))
    if options.page:
        write_page({"mixed-decision": decided, "mixed-by-rule": by_rule}, options.page)


if __name__ == "__main__":
    main()
