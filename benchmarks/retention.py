"""Probes of forgetting: does a probe that users can have predict the change on other data sets?

    python -m benchmarks.retention --data clothing cifar10 stamps --splits 4 --tests 20

Each run trains on half of the classes of one data set. At α 0.25, 0.5, 0.75 and 1, the true change is the
accuracy on the other data sets less that of the stock model. Scores are plain cosines. A probe is compared
with the true change by Spearman's rank correlation: over all runs and α, and over the runs at one α. Below
0.5 a probe is no judgement.

Probes:

- `text, 50 names`: text similarity over 50 ImageNet classes, as in the report.
- `text, nearest names`, `text, farthest names`: over the third of 150 ImageNet classes that is nearest to
  the trained classes, and over the farthest third.
- `new classes`: change of the accuracy on images of the classes of the same data set that were not trained.
- `drawings`, `parts`: change of the accuracy on the samples of clipcite (`clipcite samples`).
- `drawings, features`, `parts, features`: mean cosine of the image features with those of the stock model.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from benchmarks.accuracy.harness import Trial, facts
from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import base_to_new, fewer_tests
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots, restrict
from benchmarks.data.load import load
from benchmarks.run_store import RunStore
from core.clip.config import resolve_config
from core.clip.data.images import ImageLimits
from core.clip.data.loader import read_images
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import class_prompts
from core.clip.training.progress import Silent
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.samples.catalog import available
from core.settings import get_settings

ALPHAS = (0.25, 0.5, 0.75, 1.0)
POOL = 150
MIN_CORRELATION = 0.5
SAMPLES = ("drawings", "parts")
IMAGES_PER_CLASS = 10


@dataclass(frozen=True)
class Images:
    """Labelled images, as paths or as encoded bytes."""

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    sources: tuple[bytes | Path, ...]
    labels: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--tests", type=int, default=20, help="maximum test images per class")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    sets = [fewer_tests(load(folder), options.tests) for folder in options.data]
    if len(sets) < 2:
        parser.error("The true change is measured on other data sets. Give at least two with --data.")
    backbone = load_backbone("starter", cache=get_settings().cache, image_size=options.image_size)
    store = RunStore(options.out, f"retention-starter-{options.image_size}px")
    console = Console(width=160)
    records: list[Mapping[str, Any]] = []
    for split in range(options.splits):
        for data in sets:
            (trial,) = base_to_new(data, shots=16, splits=[split], seeds=[split])
            stored = store.get(trial.key("retention"))
            record = run(trial, sets, backbone) if stored is None else stored.record
            if stored is None:
                store.add(trial.key("retention"), record, {})
            records.append(record)
            console.print(f"{data.name}, split {split}: {record['seconds']:.0f} s")
    write([table(records)], store.json.stem.removeprefix("runs-"), options.out, console)


def run(trial: Trial, sets: Sequence[DataSet], backbone: Backbone) -> dict[str, Any]:
    """Train once; return `true` and the probes at each of `ALPHAS`."""
    started = time.monotonic()
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    names = [trial.data.class_names[label] for label in trial.trained]
    config = resolve_config(
        backbone=backbone.name,
        image_size=backbone.image_size,
        templates=tuple(trial.data.templates),
        seed=trial.seed,
    )
    trained = fine_tune(
        backbone,
        read_images([e.path for e in examples], ImageLimits(), 2 * backbone.image_size),
        [trial.trained.index(e.label) for e in examples],
        [class_prompts(name, config.templates) for name in names],
        config,
        Silent(),
    )
    delta = encode(tower_parameters(backbone.model), trained.theta_1, config.delta_format)
    untrained = [i for i in range(len(trial.data.class_names)) if i not in trial.trained]
    new_classes = _tests_of(restrict(trial.data, untrained), "new classes")
    others = [_tests_of(data, data.name) for data in sets if data.name != trial.data.name]
    probed = [new_classes, *samples()]
    pool = distractor_classes(names, POOL)
    text = _classifier(backbone, backbone.model, pool, config.templates)
    trained_text = _classifier(backbone, backbone.model, names, config.templates)
    by_distance = (text @ trained_text.T).amax(dim=1).argsort(descending=True)
    third = len(pool) // 3
    groups = {
        "text, 50 names": torch.arange(0, len(pool), 3),
        "text, nearest names": by_distance[:third],
        "text, farthest names": by_distance[-third:],
    }
    points: list[dict[str, float]] = []
    for alpha in ALPHAS:
        model = with_parameters(backbone, delta.theta(tower_parameters(backbone.model), alpha))
        cosines = (_classifier(backbone, model, pool, config.templates) * text).sum(dim=1)
        point = {name: float(cosines[rows].mean()) for name, rows in groups.items()}
        changes = []
        for images in (*others, *probed):
            before, after = _stock_features(backbone, images), _features(model, backbone, images)
            change = _accuracy(backbone, model, images, after) - _accuracy(
                backbone, backbone.model, images, before
            )
            if images in others:
                changes.append(change)
                continue
            point[images.name] = change
            if images.name in SAMPLES:
                point[f"{images.name}, features"] = float((before * after).sum(dim=1).mean())
        points.append({"alpha": alpha, "true": float(np.mean(changes)), **point})
    return {
        "data": trial.data.name,
        "split": trial.split,
        "points": points,
        "seconds": time.monotonic() - started,
        **facts(backbone),
    }


def _tests_of(data: DataSet, name: str) -> Images:
    return Images(
        name,
        data.class_names,
        tuple(data.templates),
        tuple(e.path for e in data.test),
        tuple(e.label for e in data.test),
    )


@lru_cache
def samples() -> tuple[Images, ...]:
    """Return the installed samples with up to ten images per class."""
    found = []
    for sample in available():
        if sample.name not in SAMPLES:
            continue
        counts = {**sample.trained, **sample.new}.items()
        images = [(k, name, i) for k, (name, n) in enumerate(counts) for i in range(min(n, IMAGES_PER_CLASS))]
        found.append(
            Images(
                sample.name,
                tuple(sample.classes),
                ("a photo of a {}.",),
                tuple(sample.load(name, i) for _, name, i in images),
                tuple(k for k, _, _ in images),
            )
        )
    return tuple(found)


def _features(model: nn.Module, backbone: Backbone, images: Images) -> Tensor:
    """Return the features [N, D]."""
    return torch.cat([image_features(model, pixels).cpu() for pixels in batches(backbone, images.sources)])


@lru_cache(maxsize=32)
def _stock_features(backbone: Backbone, images: Images) -> Tensor:
    return _features(backbone.model, backbone, images)


def _classifier(
    backbone: Backbone, model: nn.Module, names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    prompts = [class_prompts(name, templates) for name in names]
    return build_zero_shot_classifier(model, backbone.tokenize, prompts).cpu()


def _accuracy(backbone: Backbone, model: nn.Module, images: Images, features: Tensor) -> float:
    scores = features @ _classifier(backbone, model, images.class_names, images.templates).T
    return float((scores.argmax(dim=1) == torch.tensor(images.labels)).float().mean())


def table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rank correlation of each probe with the true change."""
    points = [point for record in records for point in record["points"]]
    probes = [key for key in points[0] if key not in ("alpha", "true")]
    made = Table(
        "Rank correlation of each probe with the true change on other data sets",
        ["probe", "all α", *(f"α {alpha:g}" for alpha in ALPHAS), "judgement"],
        note=f"{len(records)} runs. Mean true change: "
        + ", ".join(f"{_mean(points, alpha):+.3f} at α {alpha:g}" for alpha in ALPHAS)
        + f". A judgement: at least {MIN_CORRELATION} over all α, and at the default α 0.5.",
    )
    for probe in probes:
        overall = spearman(*_columns(points, probe, ALPHAS))
        each = [spearman(*_columns(points, probe, [alpha])) for alpha in ALPHAS]
        judgement = min(overall, each[ALPHAS.index(0.5)]) >= MIN_CORRELATION
        cells = ["–" if np.isnan(value) else f"{value:+.2f}" for value in (overall, *each)]
        made.rows.append([probe, *cells, "yes" if judgement else "no"])
    return made


def _columns(
    points: Sequence[Mapping[str, float]], probe: str, alphas: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = [p for p in points if p["alpha"] in alphas]
    return np.array([p[probe] for p in rows]), np.array([p["true"] for p in rows])


def _mean(points: Sequence[Mapping[str, float]], alpha: float) -> float:
    return float(np.mean([p["true"] for p in points if p["alpha"] == alpha]))


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation with mean ranks for ties; NaN if either is constant."""
    x, y = _ranks(a), _ranks(b)
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


if __name__ == "__main__":
    main()
