"""Verdicts of jobs with true and with shuffled labels (benchmarks/plans/verdict.md).

    python -m benchmarks.trust.verdicts --stamps stamps --photos clothing cifar10 --image-size 128

Each job is the cross-validation of a training job with true or shuffled labels; the model itself is not
trained. Runs are stored below --out, and an interrupted series resumes.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.harness import Trial, facts
from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import base_to_new
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.run_store import RunStore
from benchmarks.trust.runs import Record, config_of, relabelled
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.data.splits import make_folds
from core.clip.evaluation.cross_validation import cross_validate
from core.clip.evaluation.predictions import Candidates, ClassScores, HeldOutPredictions
from core.clip.evaluation.verdict import judge
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.models.features import batches, image_features
from core.clip.prompts import class_prompts
from core.clip.training.progress import Silent
from core.settings import get_settings

FIRST_SPLIT = 5
JOBS = {"shuffled": {"stamps": 60, "photos": 20}, "true": {"stamps": 10, "photos": 10}}
"""Number of jobs per data set."""
SIZES = (12, 20, 28, None)
"""Number of images per job; None for all."""
Job = tuple[str, Trial]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stamps", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument("--photos", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--only-stored", action="store_true", help="print the table of the stored runs")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    store = RunStore(options.out, f"verdicts-starter-{options.image_size}px")
    console = Console(width=160)
    if options.only_stored:
        records = [Record.load(store, key) for key in store.names()]
        rows = [judged(record) for record in records if record is not None]
    else:
        rows = []
        backbone = load_backbone("starter", cache=get_settings().cache, image_size=options.image_size)
        for labels, trial in jobs([load(d) for d in options.stamps], [load(d) for d in options.photos]):
            key = trial.key(labels)
            record = Record.load(store, key)
            if record is None:
                record = run(labels, trial, backbone)
                record.save(store, key)
            rows.append(judged(record))
            console.print(key, rows[-1][None], f"{record.plain['seconds']:.0f} s")
    write(tables(rows), store.json.stem.removeprefix("runs-"), options.out, console)


def jobs(stamps: Sequence[DataSet], photos: Sequence[DataSet]) -> list[Job]:
    """Return the jobs of the plan, so that any part of the series has all kinds in proportion."""
    placed: list[tuple[float, str, Trial]] = []
    for labels, counts in JOBS.items():
        for data, count in [(d, counts["stamps"]) for d in stamps] + [(d, counts["photos"]) for d in photos]:
            for i in range(count):
                split = FIRST_SPLIT + i
                (trial,) = base_to_new(data, shots=16, splits=[split], seeds=[split])
                placed.append(((i + 0.5) / count, labels, trial))
    return [(labels, trial) for _, labels, trial in sorted(placed, key=lambda job: job[0])]


def run(labels: str, trial: Trial, backbone: Backbone) -> Record:
    """Cross-validate one job.

    The record has `truth` [N], and `stock` and `adapted` [N, K], the scores among the trained classes.
    """
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    classes = {label: k for k, label in enumerate(trial.trained)}
    targets = [classes[label] for label in relabelled(labels, trial, examples)[0]]
    names = tuple(trial.data.class_names[label] for label in trial.trained)
    config = config_of(trial, backbone)
    paths = [example.path for example in examples]
    started = time.monotonic()
    held_out = cross_validate(
        backbone,
        make_folds(targets, config.seed),
        paths,
        read_images(paths, ImageLimits(), 2 * backbone.image_size),
        _features(backbone, paths),
        targets,
        Candidates(names, len(names), tuple(tuple(class_prompts(n, config.templates)) for n in names)),
        config,
        alpha=config.alpha,
        reporter=Silent(),
    )
    assert held_out.adapted is not None
    plain = {
        "labels": labels,
        "data": trial.data.name,
        "seconds": time.monotonic() - started,
        "logit_scale": backbone.logit_scale,
        **facts(backbone),
    }
    arrays: dict[str, NDArray[Any]] = {
        "truth": held_out.truth.astype(np.uint8),
        "stock": held_out.stock.trained_only.astype(np.float32),
        "adapted": held_out.adapted.trained_only.astype(np.float32),
    }
    return Record(plain, arrays)


def _features(backbone: Backbone, paths: Sequence[Path]) -> Tensor:

    return torch.cat([image_features(backbone.model, pixels).cpu() for pixels in batches(backbone, paths)])


def judged(record: Record) -> dict[Any, str]:
    """Return the labels, and the verdict with each of `SIZES`."""
    truth = record.arrays["truth"].astype(np.int64)
    k, none = record.arrays["stock"].shape[1], np.arange(0)
    names = Candidates(tuple(map(str, range(k))), k, ((),) * k)
    row: dict[Any, str] = {"labels": record.plain["labels"]}
    for size in SIZES:
        images = np.arange(len(truth))
        if size is not None:
            images = np.sort(np.random.default_rng(0).choice(images, min(size, len(truth)), replace=False))
        stock, adapted = (
            ClassScores(scores, scores, scores[:, :0])
            for scores in (record.arrays[name][images].astype(np.float64) for name in ("stock", "adapted"))
        )
        held_out = HeldOutPredictions(names, images, truth[images], stock, stock, adapted, {}, none)
        row[size] = judge(held_out, record.plain["logit_scale"]).verdict
    return row


def tables(rows: Sequence[dict[Any, str]]) -> list[Table]:
    words = ("better", "probably_better", "no_clear_gain", "probably_worse", "worse")
    table = Table("Verdicts", ["labels", "jobs", "images", *words])
    for labels in JOBS:
        of_kind = [row for row in rows if row["labels"] == labels]
        for size in SIZES:
            counts = [str(sum(row[size] == word for row in of_kind)) for word in words]
            table.rows.append([labels, str(len(of_kind)), "all" if size is None else str(size), *counts])
    return [table]


if __name__ == "__main__":
    main()
