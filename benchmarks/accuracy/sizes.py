"""Accuracy of the recipe by number of classes and shots.

    python -m benchmarks.accuracy.sizes --data clothing cifar10 stamps --tests 20 --seeds 1

The classes of all folders form one data set. Some of them, drawn at random, are trained; all others are new.
Options, storage and resuming are those of benchmarks.accuracy.paper.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import Trial, run
from benchmarks.accuracy.paper import load_for, parser, read_sets, write
from benchmarks.accuracy.tables import SERVED, STOCK, Table, collect, compared, signed
from benchmarks.data.dataset import DataSet, Example
from benchmarks.methods.common.registry import METHODS
from core.clip.models.backbone import Backbone

CLASSES = (2, 8, 24)
SHOTS = (1, 16)
SHOWN = ("B", "N", "mixed B", "mixed N", "all")


def joined(sets: Sequence[DataSet]) -> DataSet:
    """Join data sets into one; classes of the same name become one class."""
    names = list(dict.fromkeys(name for data in sets for name in data.class_names))
    label_of = {name: label for label, name in enumerate(names)}

    def relabelled(data: DataSet, examples: Sequence[Example]) -> list[Example]:
        return [replace(e, label=label_of[data.class_names[e.label]]) for e in examples]

    return DataSet(
        "+".join(data.name for data in sets),
        tuple(names),
        sets[0].templates,
        tuple(e for data in sets for e in relabelled(data, data.train)),
        tuple(e for data in sets for e in relabelled(data, data.test)),
    )


def sizes(data: DataSet, *, splits: int, seeds: int) -> list[Trial]:
    """Return the trials for each number of classes and shots.

    The classes of a split nest: smaller numbers of classes are prefixes of one random order.
    """
    return [
        Trial(data, tuple(sorted(order[:count].tolist())), shots, split, seed, (data,))
        for shots in SHOTS
        for count in CLASSES
        for split in range(splits)
        for order in [np.random.default_rng(split).permutation(len(data.class_names))]
        for seed in range(seeds)
    ]


def sizes_table(wanted: Sequence[Trial], backbone: Backbone, out: Path) -> Table:
    """Return stock → product with the paired difference, for each number of classes and shots."""
    data = wanted[0].data
    table = Table(
        f"{len(data.class_names)} classes, some of them trained: stock → the product",
        ["shots", "classes trained", *SHOWN],
        note=f"Means of {len({(t.split, t.seed) for t in wanted})} draws of the classes.",
    )
    for shots in SHOTS:
        for count in CLASSES:
            chosen = [t for t in wanted if (t.shots, len(t.trained)) == (shots, count)]
            runs = {r.label: r for r in collect([STOCK, "clip_cite"], chosen, backbone, out)}
            before, after = runs[STOCK], runs[SERVED]
            a, b = before.means()[data.name], after.means()[data.name]
            gain = compared(after, before)[data.name]
            cells = [f"{a[m]:.3f} → {b[m]:.3f}<br>{signed(gain[m])}" for m in SHOWN]
            table.rows.append([str(shots), str(count), *cells])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, METHODS)
    command_line.set_defaults(splits=2, seeds=1)
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    wanted = sizes(joined(read_sets(options)), splits=options.splits, seeds=options.seeds)
    for trial in wanted:
        for method in (STOCK, "clip_cite"):
            run(method, METHODS[method], trial, backbone, options.out)
    name = f"sizes-{options.backbone.replace('/', '-')}"
    write([sizes_table(wanted, backbone, options.out)], name, options.out, Console(width=160))


if __name__ == "__main__":
    main()
