"""The strength per tower, and by text distances: benchmarks/plans/strength.md.

    python -m benchmarks.accuracy.strengths --data clothing cifar10 stamps trashnet signs digits --tests 60
    --first-split 10 --splits 7 --unrelated imagenet --page benchmarks/pages/ablations.md

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out with --alphas
0.3 0.5 0.7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console

from benchmarks.accuracy import rules
from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.measures import Difference
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.report import write_page
from benchmarks.accuracy.rescore import (
    Comparison,
    Outcomes,
    Runs,
    closed,
    command_line,
    foreign,
    mixed,
    name_of,
    read_runs,
)
from benchmarks.accuracy.tables import Table, figure, signed

ALPHAS = (0.3, 0.5, 0.7)
THRESHOLDS = tuple(round(-0.3 + 0.05 * i, 2) for i in range(13))
PAIRS = ((0.7, 0.5), (0.7, 0.3), (0.5, 0.3))
MIN_DIFFERENCE = {"mixed HM": -0.003, "all": -0.003, "B": -0.003, "N": -0.003, "retention": -0.005}
MIN_GAIN = 0.005
"""Smallest gain in mixed HM or accuracy over all images."""


@dataclass(frozen=True)
class Arm:
    """α of the image tower and of the text tower, for requests below a ΔD and for all others."""

    near: tuple[float, float]
    far: tuple[float, float]
    threshold: float = 0.0

    @property
    def label(self) -> str:
        if self.near == self.far:
            return f"images {self.near[0]}, texts {self.near[1]}"
        return f"{self.near[0]} below ΔD {self.threshold:+.2f}, else {self.far[0]}"

    def view(self, run: Encodings) -> Encodings:
        """Return the run with this arm's features in the place of those at α ½."""
        of_images, of_texts = self.near if delta_d(run) < self.threshold else self.far
        return replace(
            run,
            images={0.5: run.images[of_images]},
            shots={0.5: run.shots[of_images]},
            unrelated_images={0.5: run.unrelated_images[of_images]},
            texts={0.5: run.texts[of_texts]},
            unrelated_texts={0.5: run.unrelated_texts[of_texts]},
        )


TODAY = rules.today()
PRODUCT = Arm((0.5, 0.5), (0.5, 0.5))
GROUPS: Mapping[str, Sequence[Arm]] = {
    "towers": [Arm((i, t), (i, t)) for i in ALPHAS for t in ALPHAS],
    "distances": [PRODUCT, *(Arm((a, a), (b, b), at) for a, b in PAIRS for at in THRESHOLDS)],
}


def delta_d(run: Encodings) -> float:
    """Return the mean distance between the new classes less that between new and trained ones."""
    texts = run.texts[0.0]
    trained = torch.zeros(len(texts), dtype=torch.bool)
    trained[list(run.trained)] = True
    new = texts[~trained]
    cosines = new @ new.T
    among = cosines[~torch.eye(len(new), dtype=torch.bool)]
    return float((1 - among).mean() - (1 - new @ texts[trained].T).mean())


def measured(kind: str, arm: Arm, runs: Runs) -> dict[str, list[Outcomes]]:
    views = [arm.view(run) for run in runs.half]
    rows = [{"B": closed(view, TODAY), **mixed(view, TODAY), **foreign(view, rules.PAPER)} for view in views]
    return {name: [row[name] for row in rows] for name in rows[0]}


def decision(group: str, comparison: Comparison) -> Table:
    names = list(comparison.sets)
    chosen, product = comparison.left_out(), dict.fromkeys(names, PRODUCT)
    differences = {m: comparison.interval(chosen, product, m) for m in MIN_DIFFERENCE}
    gains = [m for m in ("mixed HM", "all") if differences[m][0] >= MIN_GAIN and differences[m][1] > 0]
    adopted = bool(gains) and all(differences[m][0] >= least for m, least in MIN_DIFFERENCE.items())
    table = Table(
        f"Strength, {group}: mean of {len(names)} sets, chosen by leave-one-set-out",
        ["arm", *MIN_DIFFERENCE],
        note="95% intervals over splits and images, sets fixed. Chosen: "
        + "; ".join(f"{name}: {name_of(arm)}" for name, arm in chosen.items())
        + f". {'Adopted' if adopted else 'Not adopted'}.",
    )
    values = comparison.mean(product)
    table.rows.append(["α 0.5", *(figure(values[m]) for m in MIN_DIFFERENCE)])
    values = comparison.mean(chosen)
    shown = [signed(Difference(*interval)) for interval in differences.values()]
    table.rows.append(
        ["chosen", *(f"{figure(values[m])}<br>{s}" for m, s in zip(MIN_DIFFERENCE, shown, strict=True))]
    )
    every = sorted(comparison.candidates, key=lambda arm: -comparison.score(arm, names))
    for arm in every[:4]:
        values = comparison.mean(dict.fromkeys(names, arm))
        table.rows.append([f"{name_of(arm)}, on all sets", *(figure(values[m]) for m in MIN_DIFFERENCE)])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line(__doc__).parse_args(arguments)
    if not options.unrelated:
        raise SystemExit("The decision needs retention. Add --unrelated.")
    sets = read_runs(options, load_for(options), ())
    tables = {
        f"strength-{group}": decision(group, Comparison("strength", arms, sets, measured))
        for group, arms in GROUPS.items()
    }
    write(
        list(tables.values()),
        f"strengths-{options.backbone.replace('/', '-')}",
        options.out,
        Console(width=160),
    )
    if options.page:
        write_page(tables, options.page)


if __name__ == "__main__":
    main()
