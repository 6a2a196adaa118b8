"""Verdict by signed ranks against the earlier rule, *today* in benchmarks/plans/verdict.md.

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
from core.clip.data.images import ImageLimits
from core.clip.data.loader import read_images
from core.clip.data.splits import make_folds
from core.clip.evaluation.accuracy import (
    Interval,
    brier_gain,
    effective_share,
    probability_better,
    verdict,
)
from core.clip.evaluation.cross_validation import cross_validate
from core.clip.evaluation.predictions import Candidates, ClassScores, HeldOutPredictions
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.models.features import batches, image_features
from core.clip.prompts import class_prompts
from core.clip.training.progress import Silent
from core.settings import get_settings

FIRST_SPLIT = 5
JOBS = {"shuffled": {"stamps": 60, "photos": 20}, "true": {"stamps": 10, "photos": 10}}
"""Number of jobs per data set."""
MAX_FALSE = 6
"""Maximum number of 100 shuffled jobs with the verdict `better`."""
Job = tuple[str, Trial]


def main(arguments: Sequence[str] | None = None) -> None:
    options = series_options(__doc__, arguments)
    backbone = load_backbone("starter", cache=get_settings().cache, image_size=options.image_size)
    store = RunStore(options.out, f"verdicts-starter-{options.image_size}px")
    console = Console(width=160)
    rows = []
    for labels, trial in jobs([load(d) for d in options.stamps], [load(d) for d in options.photos]):
        key = trial.key(labels)
        record = Record.load(store, key)
        if record is None:
            if options.only_stored:
                continue
            record = run(labels, trial, backbone)
            record.save(store, key)
        rows.append(judged(record))
        console.print(key, rows[-1]["today"], rows[-1]["ranks"], f"{record.plain['seconds']:.0f} s")
    write(tables(rows), store.json.stem.removeprefix("runs-"), options.out, console)


def series_options(description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a series of jobs on stamps and photographs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stamps", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument("--photos", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--only-stored", action="store_true", help="print the tables of the stored runs")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser.parse_args(arguments)


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


def judged(record: Record) -> dict[str, Any]:
    """Return labels, data, both verdicts and the probability of a gain."""
    truth = record.arrays["truth"].astype(np.int64)
    stock, adapted = (
        ClassScores(scores, scores, scores[:, :0])
        for scores in (record.arrays[name].astype(np.float64) for name in ("stock", "adapted"))
    )
    k, none = stock.trained_only.shape[1], np.arange(0)
    names = Candidates(tuple(map(str, range(k))), k, ((),) * k)
    held_out = HeldOutPredictions(names, np.arange(len(truth)), truth, stock, stock, adapted, {}, none)
    before, after = (s.trained_only.argmax(axis=1) == truth for s in (stock, adapted))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    gain = brier_gain(held_out, record.plain["logit_scale"])
    share = effective_share(len(truth), len(truth) // 2)  # two halves
    return {
        "labels": record.plain["labels"],
        "data": record.plain["data"],
        "images": len(truth),
        "today": earlier_verdict(gained, lost, len(truth), gain),
        "ranks": verdict(gained, lost, gain, share=share),
        "probability": probability_better(gained, lost, share=share),
    }


def earlier_verdict(gained: int, lost: int, images: int, brier_gain: Interval | None) -> str:
    """Return the verdict of the rule before the plan.

    `better` (likewise `worse`): the whole paired bootstrap interval of the difference in accuracy lies above
    0, or the difference is above 0 and so is the whole interval of `brier_gain`.
    """
    shares = np.array([lost, images - gained - lost, gained]) / images
    counts = np.random.default_rng(0).multinomial(images, shares, size=10_000)
    low, high = np.percentile(counts[:, 2] - counts[:, 0], [2.5, 97.5])
    if low > 0 or (brier_gain is not None and brier_gain.low > 0 and gained > lost):
        return "better"
    if high < 0 or (brier_gain is not None and brier_gain.high < 0 and gained < lost):
        return "worse"
    return "no_clear_gain"


def tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    decision = "yes" if adopted(rows) else "no"
    words, rules = ("better", "worse"), ("today", "ranks")
    table = Table(
        "Verdicts by rule",
        ["labels", "images", "jobs", *(f"{w}, {r}" for w in words for r in rules), "probability > 0.9"],
        note="Adopted with all jobs of the plan, at most 6 of 100 shuffled jobs `better` by ranks, and no "
        f"fewer true jobs `better` than today: {decision}.",
    )
    for labels in JOBS:
        of_kind = [row for row in rows if row["labels"] == labels]
        for data in [*dict.fromkeys(row["data"] for row in of_kind), None]:
            part = [row for row in of_kind if data in {None, row["data"]}]
            counts = [sum(row[rule] == word for row in part) for word in words for rule in rules]
            likely = sum(row["probability"] > 0.9 for row in part)
            table.rows.append([labels, data or "all", *map(str, (len(part), *counts, likely))])
    return [table]


def adopted(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether the run fulfils the plan's condition."""

    def better(labels: str, rule: str) -> int:
        return sum(row["labels"] == labels and row[rule] == "better" for row in rows)

    complete = [sum(row["labels"] == labels for row in rows) for labels in JOBS] == [100, 30]
    return (
        complete
        and better("shuffled", "ranks") <= MAX_FALSE
        and better("true", "ranks") >= better("true", "today")
    )


if __name__ == "__main__":
    main()
