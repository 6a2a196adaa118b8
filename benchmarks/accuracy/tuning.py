"""One grid of settings for all methods, judged on held-out training images: benchmarks/plans/tuning.md.

    python -m benchmarks.accuracy.tuning --data clothing cifar10

Each method has twelve trials. Runs are stored below --out and not repeated. The log has each trial with its
measures, and the chosen one of each method. Name some methods to run them in a process of their own.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import Trial, results, run
from benchmarks.accuracy.measures import means
from benchmarks.accuracy.paper import load_for, write
from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes, draw_shots
from benchmarks.data.load import load
from benchmarks.methods.tuned import GRIDS, NAMES
from core.clip.models.backbone import Backbone

SPLIT, SHOTS = 60, 16
MEASURES = ("HM", "mixed HM")
SHOWN = ("B", "N", *MEASURES, "all")


def held_out_trial(data: DataSet) -> Trial:
    """Return the trial on a class split of its own, with the training images that it does not train as tests.

    No test image of the data set is used.

    Raises:
        SystemExit: a trained class has no image besides its shots.
    """
    trained = base_classes(SPLIT, len(data.class_names))
    shots = draw_shots(data.train, trained, SHOTS, SPLIT)
    used = {shot.path for shot in shots}
    held_out = tuple(example for example in data.train if example.path not in used)
    if not set(trained) <= {example.label for example in held_out}:
        raise SystemExit(
            f"{data.name}: a trained class has no image besides its {SHOTS} shots. Use a larger set."
        )
    data = replace(data, train=tuple(shots), test=held_out)
    return Trial(data, tuple(trained), SHOTS, SPLIT, SPLIT, (data,))


def score(values: Iterable[Mapping[str, float]]) -> float:
    """Return the mean over the data sets of HM and mixed HM.

    A method that cannot predict new classes has no HM and is judged by B.
    """
    return float(np.mean([np.mean([v[m] for m in (MEASURES if "HM" in v else ("B",))]) for v in values]))


def log_of(
    methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> list[dict[str, Any]]:
    """Return the stored trials. The best one of each method, or the first of equal ones, is chosen."""
    log = []
    for method in methods:
        found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        for training in GRIDS[method]:
            for trial in trials:
                for result in results(f"{method}-{training}", trial, backbone, out):
                    values = means([result.answers[trial.data.name]])
                    of_setting = found.setdefault((training, result.label), {})
                    of_setting[trial.data.name] = {m: values[m] for m in SHOWN if not np.isnan(values[m])}
        scores = {key: score(values.values()) for key, values in found.items()}
        best = max(scores, key=scores.__getitem__)
        log += [
            {
                "method": method,
                "training": key[0],
                "setting": key[1],
                "score": scores[key],
                "chosen": key == best,
                "values": values,
            }
            for key, values in found.items()
        ]
    return log


def table_of(log: Sequence[Mapping[str, Any]]) -> Table:
    """Return the recipe and the chosen settings of each method with their scores."""
    table = Table(
        "One grid for all methods: held-out training images",
        ["method", "trials", "recipe", "chosen", "score of the recipe", "of the chosen", "lowest of all"],
        note="Score: mean of HM and mixed HM over the data sets; B for the linear probe.",
    )
    for method in dict.fromkeys(trial["method"] for trial in log):
        trials = [trial for trial in log if trial["method"] == method]
        (chosen,) = (trial for trial in trials if trial["chosen"])
        table.rows.append(
            [
                NAMES[method],
                str(len(trials)),
                setting_of(trials[0]),
                setting_of(chosen),
                *(figure(t["score"]) for t in (trials[0], chosen, min(trials, key=lambda t: t["score"]))),
            ]
        )
    return table


def setting_of(trial: Mapping[str, Any]) -> str:
    return trial["setting"] if trial["training"] == "C" else f"{trial['training']}, {trial['setting']}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument("--methods", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    parser.set_defaults(threads=None)
    options = parser.parse_args(arguments)
    backbone = load_for(options)
    trials = [held_out_trial(load(folder)) for folder in options.data]
    for method in options.methods:
        for name, function in GRIDS[method].items():
            for trial in trials:
                if run(f"{method}-{name}", function, trial, backbone, options.out):
                    print(trial.key(f"{method}-{name}"), flush=True)
    log = log_of(options.methods, trials, backbone, options.out)
    name = f"tuning-{options.backbone.replace('/', '-')}"
    write([table_of(log)], name, options.out, Console(width=200))
    text = json.dumps(log, ensure_ascii=False, indent=1)  # instead of the table, which it determines
    (options.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
