"""Check of one temperature for all requests (benchmarks/plans/one-rule.md), on stored runs.

    python -m benchmarks.accuracy.temperature --out benchmarks/results

The runs below --features are those of `benchmarks.accuracy.encodings`, with and without --folds. What the
table needs of them is kept below --out. No image and no training is needed.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from rich.console import Console

from benchmarks.accuracy.encodings import Encodings, read, store_of
from benchmarks.accuracy.measures import Floats
from benchmarks.accuracy.tables import Table, figure
from benchmarks.run_store import Run, RunStore
from core.clip.inference.calibration import calibration_error, fit_temperature, softmax
from core.clip.inference.request_rule import request_rule
from core.clip.models.backbone import Backbone

ALPHA = 0.5
EXPONENT = 0.7
LOGIT_SCALE = 100.0
"""That of the starter."""
FOLDS, FEATURES = "/folds", "/features"


def request_scores(run: Encodings) -> dict[str, Floats]:
    """Return the scores of closed requests for the images of trained classes, and those of mixed requests."""
    images, texts, trained = run.images[ALPHA], run.texts[ALPHA], list(run.trained)
    shots = run.shots[ALPHA], run.shot_labels
    own = np.isin(run.truth.numpy(), trained)
    return {
        "closed": request_rule(shots, texts[trained], range(len(trained))).scores(images).numpy()[own],
        "mixed": request_rule(shots, texts, run.classes).scores(images).numpy(),
    }


def pack(features: RunStore, packed: RunStore) -> None:
    """Keep what the table needs of the runs that have fold models."""
    for key in (name.removesuffix(FOLDS) for name in sorted(features.names()) if name.endswith(FOLDS)):
        folds, run = features.get(key + FOLDS), features.get(key + FEATURES)
        if folds is not None and run is not None and packed.get(key) is None:
            found = read(run)
            arrays = {"truth": found.truth.numpy(), "trained": np.array(found.trained)}
            held_out = {"folds": folds.array("closed"), "folds_truth": folds.array("truth")}
            packed.add(key, dict(run.record), {**arrays, **held_out}, request_scores(found))


def errors(run: Run) -> list[float]:
    """Return T, the ECE of closed requests with T and T^0.7, and of mixed ones with 1, T^0.7 and T."""
    truth, trained = run.array("truth"), run.array("trained")
    temperature = fit_temperature(LOGIT_SCALE * run.array("folds").astype(float), run.array("folds_truth"))
    power = temperature**EXPONENT
    own = truth[np.isin(truth, trained)]
    requests = (
        ("closed", np.searchsorted(trained, own), (temperature, power)),
        ("mixed", truth, (1.0, power, temperature)),
    )
    return [
        temperature,
        *(
            calibration_error(softmax(LOGIT_SCALE * run.scores(name) / t), labels)
            for name, labels, temperatures in requests
            for t in temperatures
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--features", type=Path, help="folder of runs with features, which are packed first")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args(arguments)
    packed = RunStore(options.out, f"temperature-{options.backbone.replace('/', '_')}")
    if options.features:
        pack(store_of(cast(Backbone, SimpleNamespace(name=options.backbone)), options.features), packed)
    found: dict[str, list[list[float]]] = defaultdict(list)
    for key in sorted(packed.names()):
        if (run := packed.get(key)) is not None:
            found[key.split("/")[0]].append(errors(run))
    table = Table(
        f"Calibration error, {sum(map(len, found.values()))} runs",
        ["set", "T of the folds", "closed, T", "closed, T^0.7", "mixed, 1", "mixed, T^0.7", "mixed, T"],
    )
    means = {name: np.mean(rows, axis=0) for name, rows in found.items()}
    means["mean"] = np.mean(list(means.values()), axis=0)
    for name, (temperature, *values) in means.items():
        table.rows.append([name, f"{temperature:.2f}", *(figure(float(x)) for x in values)])
    worst = max(float(row[2] - row[1]) for row in means.values())
    table.note = (
        f"Largest rise of a closed error: {worst:+.3f} (at most +0.005). Mixed error: "
        f"{means['mean'][4] / means['mean'][3]:.2f} of that with T = 1 (at most 0.5)."
    )
    Console(width=160).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
