"""Accuracy on base and new classes after each epoch.

FT-Probe fine-tunes the image tower with a classifier, and forgets the new classes while it learns the base
ones. CLIP-CITE's ensemble keeps them.

    python -m benchmarks.accuracy.curve --data clothing cifar10 stamps --splits 3 --seeds 1

Options are those of benchmarks.accuracy.paper. Results are stored below --out.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import Trial, facts, score_tests, store_of, task_of
from benchmarks.accuracy.measures import means
from benchmarks.accuracy.paper import load_for, parser, read_trials, write
from benchmarks.accuracy.tables import Table
from benchmarks.methods.common.registry import METHODS
from benchmarks.methods.common.task import Predictor
from core.clip.models.backbone import Backbone

WATCHED = {"ft_probe": "FT-Probe", "clip_cite": "CLIP-CITE, α = 0.5"}


@dataclass(frozen=True)
class Point:
    epoch: int
    base: float
    new: float


def watch(method: str, trial: Trial, backbone: Backbone, out: Path) -> list[Point]:
    """Return the curve of one training, measured once and then read from the store."""
    name = f"curve-{method}"
    store = store_of(name, backbone, out)
    if run := store.get(trial.key(name)):
        return [Point(**point) for point in run.record["points"]]
    points, arrays, scores = [], {}, {}

    def after_epoch(epoch: int, epochs: int, predictor: Predictor) -> None:
        result = score_tests(predictor, trial.data, trial, backbone)
        values = means([result.best()])
        points.append(Point(epoch, values["B"], values["N"]))
        scores[f"epoch {epoch}"] = result.similarities
        arrays["truth"], arrays["trained"] = result.truth, np.array(result.trained)
        arrays["class_names"] = np.array(result.class_names)

    task, started = task_of(trial, backbone), time.monotonic()
    METHODS[method](replace(task, watch=after_epoch))
    record = {
        "points": [asdict(point) for point in points],
        "seconds": time.monotonic() - started,
        **facts(backbone),
    }
    store.add(trial.key(name), record, arrays, scores)
    return points


def is_watched(method: str, trial: Trial, backbone: Backbone, out: Path) -> bool:
    name = f"curve-{method}"
    return store_of(name, backbone, out).get(trial.key(name)) is not None


def average(curves: Sequence[list[Point]]) -> list[Point]:
    return [
        Point(at[0].epoch, float(np.mean([p.base for p in at])), float(np.mean([p.new for p in at])))
        for at in zip(*curves, strict=True)
    ]


def curve_table(methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path) -> Table:
    table = Table("B / N after each epoch, mean over data sets and splits", ["method"])
    for method in methods:
        curve = average([watch(method, trial, backbone, out) for trial in trials])
        table.columns = ["method", *(str(point.epoch) for point in curve)]
        table.rows.append([WATCHED[method], *(f"{point.base:.3f} / {point.new:.3f}" for point in curve)])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, WATCHED)
    command_line.set_defaults(splits=3, seeds=1, methods=list(WATCHED))
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    trials = read_trials(options)
    table = curve_table(options.methods, trials, backbone, options.out)
    write([table], f"curve-{options.backbone.replace('/', '-')}", options.out, Console(width=160))


if __name__ == "__main__":
    main()
