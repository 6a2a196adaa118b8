"""Detectors of new classes compared on stored features, without a training.

    python -m benchmarks.accuracy.detectors --encodings benchmark-results/encodings

A detector is a value per image that is higher for images of trained classes. The features are those of
`benchmarks.accuracy.encodings`, with half of the classes trained. The plan is
benchmarks/plans/trained-or-new.md.
"""

import argparse
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings, read
from benchmarks.accuracy.measures import Difference, Floats, mean_of_resampled_runs, resampled_images
from benchmarks.accuracy.rules import Support, scores, today
from benchmarks.accuracy.scores import BestScores
from benchmarks.accuracy.tables import Table, signed

MARGIN, SUM, MAXIMUM, BOTH = "margin, today", "sum", "maximum", "sum and maximum"
SHOWN = ("AUROC", "Opt-a", "Opt-g", "OwAUC")
Values = Mapping[str, Floats]
"""Value [N] of each image by detector."""


def detectors(of_images: Tensor, of_shots: Tensor, trained: Sequence[int], logit_scale: float) -> Values:
    """Return the values of N images by each detector.

    Args:
        of_images, of_shots: scores [N, C] and [S, C] in units of the cosine, less the offsets.
        trained: columns of the trained classes.
    """
    new = [c for c in range(of_images.shape[1]) if c not in set(trained)]
    p, p_shots = (
        torch.softmax(logit_scale * x.double(), dim=1)[:, list(trained)] for x in (of_images, of_shots)
    )
    total, largest = p.sum(dim=1), p.amax(dim=1)
    ranks = [
        torch.searchsorted(shots.sort().values, values, right=True) / len(shots)
        for shots, values in ((p_shots.sum(dim=1), total), (p_shots.amax(dim=1), largest))
    ]
    margin = of_images[:, list(trained)].amax(dim=1) - of_images[:, new].amax(dim=1)
    # Equal ranks are common, so the values themselves break ties.
    both = ranks[0] + ranks[1] + 1e-6 * (total + largest)
    return {MARGIN: margin.numpy(), SUM: total.numpy(), MAXIMUM: largest.numpy(), BOTH: both.numpy()}


def values_of(run: Encodings, logit_scale: float) -> tuple[BestScores, Values]:
    """Return the predictions of a run and the values of its test images."""
    rule, support = today(), Support.of(run.shots, run.shot_labels)
    of_images = scores(rule, run.images, run.texts, support, run.classes)
    of_shots = scores(rule, support.features, run.texts, support, run.classes)
    best = BestScores.from_scores(of_images.numpy(), run.truth.numpy(), run.trained)
    return best, detectors(of_images, of_shots, run.trained, logit_scale)


def open_world(best: BestScores, detector: Floats, weights: Floats) -> dict[str, Floats]:
    """Return AUROC and OwAUC, [R] each, of images with weights [R, N]."""
    is_trained, correct = best.is_trained, best.correct_within_kind()
    above = detector[is_trained][:, None] > detector[~is_trained][None, :]
    right = above & correct[is_trained][:, None] & correct[~is_trained][None, :]
    of_trained, of_new = weights[:, is_trained], weights[:, ~is_trained]
    pairs = np.maximum(of_trained.sum(axis=1) * of_new.sum(axis=1), 1)
    return {
        name: ((of_trained @ matrix.astype(np.float64)) * of_new).sum(axis=1) / pairs
        for name, matrix in (("AUROC", above), ("OwAUC", right))
    }


def compare(sets: Mapping[str, Sequence[tuple[BestScores, Values]]]) -> Table:
    """Return the measures of each detector as the mean over the sets, with the difference to the margin."""

    def mean(name: str, measure: str) -> float:
        by_set = [[best.open_world(values[name])[measure] for best, values in runs] for runs in sets.values()]
        return float(np.mean([np.mean(of_set) for of_set in by_set]))

    def draws(name: str, measure: str) -> Floats:
        by_set = []
        for data, runs in sets.items():
            seed = zlib.crc32(data.encode())
            rows = [
                open_world(best, values[name], resampled_images(len(best.truth), seed))[measure]
                for best, values in runs
            ]
            by_set.append(mean_of_resampled_runs(np.stack(rows), range(len(rows)), seed))
        average: Floats = np.mean(by_set, axis=0)
        return average

    count = sum(len(runs) for runs in sets.values())
    table = Table(
        f"Detectors of trained classes: mean of {len(sets)} sets, {count} runs",
        ["detector", *SHOWN, "AUROC − margin's", "OwAUC − margin's"],
        note="95% intervals over splits and images, sets fixed.",
    )
    for name in (MARGIN, SUM, MAXIMUM, BOTH):
        cells = [f"{mean(name, m):.3f}" for m in SHOWN]
        for m in ("AUROC", "OwAUC") if name != MARGIN else ():
            low, high = np.percentile(draws(name, m) - draws(MARGIN, m), [2.5, 97.5])
            gain = mean(name, m) - mean(MARGIN, m)
            cells.append(signed(Difference(gain, float(low), float(high))))
        table.rows.append([name, *cells, *([""] * (len(table.columns) - 1 - len(cells)))])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encodings", type=Path, required=True, help="folder of stored features")
    parser.add_argument(
        "--logit-scale", type=float, default=40.0, help="of the backbone (default: the starter's, 40)"
    )
    parser.add_argument("--splits", type=int, nargs="+", default=[7, 8, 9])
    options = parser.parse_args(arguments)
    sets: dict[str, list[tuple[BestScores, Values]]] = {}
    for path in sorted(options.encodings.glob("*.npz")):
        found = re.match(r"(.+)--split(\d+)-seed", path.name)
        run = read(path) if found and int(found[2]) in options.splits else None
        if found and run is not None and len(run.trained) < len(run.class_names):
            sets.setdefault(found[1], []).append(values_of(run, options.logit_scale))
    if not sets:
        raise SystemExit(
            f"{options.encodings} has no runs of these splits. Run benchmarks.accuracy.encodings first."
        )
    Console(width=160).print(compare(sets).markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
