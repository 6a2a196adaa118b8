"""Reports of small jobs with two and with four fold models (benchmarks/plans/small-jobs.md).

    python -m benchmarks.trust.folds --stamps stamps --photos clothing cifar10

Each job trains once. Both kinds of fold models then evaluate it, and so do test images, which give the truth.
The product has two fold models; four are made here. Runs are stored below --out, and an interrupted series
resumes.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console

from benchmarks.accuracy.harness import Trial, facts
from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import base_to_new, fewer_tests
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.run_store import RunStore
from benchmarks.trust.runs import config_of, relabelled
from benchmarks.trust.verdicts import series_options
from core.clip.evaluation import cross_validation, evaluate
from core.clip.evaluation.report import Report
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.pipeline import Shot, TrainedModel, adapt
from core.settings import get_settings

FIRST_SPLIT = 40
JOBS = {"stamps": 15, "photos": 10}
SHUFFLED = 20
PHOTO_SHOTS = 8
TESTS = 60
KINDS = ("two", "four")


def main(arguments: Sequence[str] | None = None) -> None:
    options = series_options(__doc__, arguments)
    backbone = load_backbone("starter", cache=get_settings().cache, image_size=options.image_size)
    store = RunStore(options.out, f"folds-starter-{options.image_size}px")
    console = Console(width=160)
    rows = []
    for labels, trial in jobs(options.stamps, options.photos):
        key = trial.key(labels)
        if (stored := store.get(key)) is None:
            if options.only_stored:
                continue
            store.add(key, run(labels, trial, backbone), {})
            stored = store.get(key)
        assert stored is not None
        rows.append({**stored.record, "labels": labels, "data": trial.data.name})
        console.print(key, {kind: stored.record[kind] for kind in KINDS})
    write(tables(rows), store.json.stem.removeprefix("runs-"), options.out, console)


def jobs(stamps: Sequence[Path], photos: Sequence[Path]) -> list[tuple[str, Trial]]:
    """Return the jobs of the plan, those with true labels first and each data set in turn."""
    found: list[tuple[int, str, Trial]] = []
    for kind, folders in (("stamps", stamps), ("photos", photos)):
        for folder in folders:
            data = fewer_tests(load(folder), TESTS)
            for labels, count in (("real", JOBS[kind]), ("shuffled", SHUFFLED if kind == "stamps" else 0)):
                for split in range(FIRST_SPLIT, FIRST_SPLIT + count):
                    shots = PHOTO_SHOTS if kind == "photos" else 16
                    (trial,) = base_to_new(data, shots=shots, splits=[split], seeds=[split])
                    found.append((split, labels, trial))
    return [(labels, trial) for split, labels, trial in sorted(found, key=lambda job: (job[1], job[0]))]


def run(labels: str, trial: Trial, backbone: Backbone) -> dict[str, Any]:
    """Train once, and evaluate with both kinds of fold models and on the test images."""
    names = trial.data.class_names
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    targets, _ = relabelled(labels, trial, examples)
    shots = sorted(
        (Shot(e.path, names[label]) for e, label in zip(examples, targets, strict=True)),
        key=lambda shot: names.index(shot.class_name),
    )
    config = config_of(trial, backbone)
    trained: list[TrainedModel] = []
    started = 0.0

    def on_trained(model: TrainedModel) -> None:
        nonlocal started
        trained.append(model)
        started = time.process_time()

    record: dict[str, Any] = {"images": len(shots), **facts(backbone)}
    for name in KINDS:
        with ExitStack() as patched:
            if name == "four":
                patched.enter_context(patch.object(evaluate, "make_folds", quarters))
                # Three trainings: all epochs on three quarters of the images each.
                patched.enter_context(patch.object(cross_validation, "CV_BUDGET", 3.0))
            started = time.process_time()
            known = trained[0] if trained else None
            adapted = adapt(backbone, shots, config, trained=known, on_trained=on_trained)
            assert adapted.evaluation.report is not None
            record[name] = figures(adapted.evaluation.report)
            record[name]["cpu_seconds"] = time.process_time() - started
    if labels == "real":
        tests = [Shot(e.path, names[e.label]) for e in trial.data.test if e.label in trial.trained]
        adapted = adapt(backbone, shots, config, tests=tests, trained=trained[0])
        assert adapted.evaluation.report is not None
        record["truth"] = figures(adapted.evaluation.report)
    return record


def quarters(labels: Sequence[int], seed: int, originals: Sequence[int] | None = None) -> list[list[int]]:
    """Return the image indices of each of four folds, ascending, stratified by class.

    Copies aren't kept together: the sets have none.
    """
    generator = np.random.default_rng(seed)
    folds: list[list[int]] = [[], [], [], []]
    for number, label in enumerate(sorted(set(labels))):
        for i, index in enumerate(generator.permutation(np.flatnonzero(np.asarray(labels) == label))):
            folds[(i + number) % 4].append(int(index))  # each class gives its extra images to other folds
    return [sorted(fold) for fold in folds]


def figures(report: Report) -> dict[str, Any]:
    """Return the accuracy on the trained classes and the gain, with their intervals, and the verdict."""
    measured = report.trained_classes
    assert measured is not None
    assert measured.adapted is not None
    assert measured.adapted_against_stock is not None
    accuracy, gain = measured.adapted, measured.adapted_against_stock
    return {
        "verdict": report.verdict,
        "accuracy": [accuracy.value, accuracy.low, accuracy.high],
        "gain": [gain.value, gain.low, gain.high],
    }


def tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """Return one row per data set and number of fold models."""
    table = Table(
        "Reports of small jobs, with two and with four fold models",
        [
            "jobs",
            "fold models",
            "number",
            "gain, reported / true",
            "interval contains the gain",
            "accuracy, reported / true",
            "interval contains the accuracy",
            "better",
            "report, CPU seconds",
        ],
        note="CPU seconds are those of all cores, as the median.",
    )
    real = [row for row in rows if row["labels"] == "real"]
    groups = [
        (name, [r for r in real if r["data"] == name]) for name in dict.fromkeys(r["data"] for r in real)
    ]
    for group, of_group in [*groups, ("all", real)]:
        for name in KINDS if of_group else ():
            table.rows.append([group, name, str(len(of_group)), *cells(of_group, name)])
    shuffled = [row for row in rows if row["labels"] == "shuffled"]
    for name in KINDS if shuffled else ():
        better = sum(row[name]["verdict"] == "better" for row in shuffled)
        table.rows.append(["shuffled labels", name, str(len(shuffled)), *"––––", str(better), "–"])
    return [table]


def cells(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    found = []
    for measure in ("gain", "accuracy"):
        true = [row["truth"][measure][0] for row in rows]
        values, low, high = np.array([row[name][measure] for row in rows]).T
        within = int(((low <= true) & (true <= high)).sum())
        sign = "+" if measure == "gain" else ""
        found += [f"{values.mean():{sign}.3f} / {np.mean(true):{sign}.3f}", f"{within} of {len(rows)}"]
    better = sum(row[name]["verdict"] == "better" for row in rows)
    seconds = np.median([row[name]["cpu_seconds"] for row in rows])
    return [*found, str(better), f"{seconds:.0f}"]


if __name__ == "__main__":
    main()
