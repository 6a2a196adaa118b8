"""Figures of the results page, from stored runs.

    python -m benchmarks.accuracy.figures --data clothing cifar10 stamps --to benchmarks/figures

The runs below --out are those of benchmarks.accuracy.ablations (the α curve) and
benchmarks.accuracy.paper --setting fsl (shots), for the same --data, --splits and --seeds. The output is SVG.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from rich.console import Console

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.accuracy.ablations import ALPHAS
from benchmarks.accuracy.paper import load_for, parser, read_trials
from benchmarks.accuracy.tables import collect
from benchmarks.accuracy.trials import SHOT_COUNTS, few_shot
from benchmarks.data.load import load
from benchmarks.methods.common.registry import METHODS

COLOURS = {"B": "#1f77b4", "N": "#d62728", "mixed B": "#6baed6", "mixed N": "#ff9896", "mixed HM": "#2ca02c"}


def alpha_curve(values: Mapping[float, Mapping[str, float]]) -> Figure:
    """Plot the measures by α; 0 is the stock model."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    alphas = sorted(values)
    for name, colour in COLOURS.items():
        style = "--" if name.startswith("mixed") and name != "mixed HM" else "-"
        axes.plot(
            alphas, [values[a][name] for a in alphas], style, color=colour, label=name, marker="o", ms=3
        )
    axes.axvline(0.5, color="#999999", lw=0.8)
    axes.set_xlabel("α: 0 is the pre-trained network, 1 the fine-tuned one")
    axes.set_ylabel("accuracy")
    axes.legend(ncols=2, fontsize=8)
    return figure


def shots_curve(values: Mapping[str, Mapping[int, float]]) -> Figure:
    """Plot the accuracy of each method by shots per class."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    for label, by_shots in values.items():
        shots = sorted(by_shots)
        wide = 2.2 if label.startswith("CLIP-CITE") else 1.1
        axes.plot(shots, [by_shots[n] for n in shots], marker="o", ms=3, lw=wide, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({n for by_shots in values.values() for n in by_shots}))
    axes.get_xaxis().set_major_formatter("{x:.0f}")
    axes.set_xlabel("shots per class")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize=7, ncols=2)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, METHODS)
    command_line.add_argument("--to", type=Path, default=Path("benchmarks/figures"))
    command_line.set_defaults(splits=3, seeds=1)
    options = command_line.parse_args(arguments)
    console = Console()
    backbone = load_for(options)
    trials = read_trials(options)

    runs = collect(["ablation-stock", "ablation-one_training"], trials, backbone, options.out)
    by_label = {one.label: one.means()["mean"] for one in runs}
    if by_label:
        values = {0.0: by_label["stock"], **{a: by_label[f"α = {a}"] for a in ALPHAS}}
        save(alpha_curve(values), options.to, "alpha")
        console.print("alpha: B, N and mixed along α")

    sets = [load(folder) for folder in options.data]
    by_shots: dict[str, dict[int, float]] = {}
    for count in SHOT_COUNTS:
        of_count = [t for data in sets for t in few_shot(data, shots=[count], seeds=range(options.seeds))]
        for one in collect(METHODS, of_count, backbone, options.out):
            by_shots.setdefault(one.label, {})[count] = one.means()["mean"]["B"]
    if by_shots:
        save(shots_curve(by_shots), options.to, "shots")
        console.print("shots: accuracy by shots")


if __name__ == "__main__":
    main()
