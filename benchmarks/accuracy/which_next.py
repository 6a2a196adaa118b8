"""Orders of labelling a collection (benchmarks/plans/which-next.md, step 1), on stored features.

    python -m benchmarks.accuracy.which_next --out benchmarks/results

The runs below --out are those of `benchmarks.accuracy.encodings`. No image and no training is needed.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.rules import stored_series
from benchmarks.accuracy.tables import Table, figure
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone

SHOTS, ROUNDS, DRAWS, NEW = 5, (20, 30), 3, 2
SETTINGS = ("all trained", "two new")
LOGIT_SCALE = 100.0
Choice = Callable[[Tensor, Tensor, int, np.random.Generator], Tensor]
"""Returns n rows of the probabilities [M, C] and features [M, D]."""


def at_random(p: Tensor, x: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.permutation(len(p))[:n])


def _margins(p: Tensor) -> Tensor:
    best = p.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def margin(p: Tensor, x: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    return _margins(p).argsort(stable=True)[:n]


def turns(p: Tensor, x: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    order = margin(p, x, len(p), generator)
    predicted = p.argmax(dim=1)[order].tolist()
    seen: dict[int, int] = {}
    rank = []
    for name in predicted:
        rank.append(seen.get(name, 0))
        seen[name] = rank[-1] + 1
    return order[torch.tensor(rank).argsort(stable=True)[:n]]


def spread(p: Tensor, x: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    unsure = 1 - _margins(p)
    chosen = [int(unsure.argmax())]
    distance = 1 - x @ x[chosen[0]]
    while len(chosen) < min(n, len(p)):
        value = unsure * distance
        value[chosen] = -1
        chosen.append(int(value.argmax()))
        distance = torch.minimum(distance, 1 - x @ x[chosen[-1]])
    return torch.tensor(chosen)


def typical(p: Tensor, x: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    n = min(n, len(x))
    centres = x[[int(generator.integers(len(x)))]]
    while len(centres) < n:
        weight = (1 - x @ centres.T).amin(dim=1).clamp(min=1e-9).double().numpy()
        centres = torch.cat([centres, x[[int(generator.choice(len(x), p=weight / weight.sum()))]]])
    for _ in range(20):
        own = (x @ centres.T).argmax(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, own, x)
        centres = torch.where(
            sums.norm(dim=1, keepdim=True) > 0, torch.nn.functional.normalize(sums, dim=1), centres
        )
    own = (x @ centres.T).argmax(dim=1)
    chosen = []
    for cluster in own.unique():
        rows = (own == cluster).nonzero()[:, 0]
        near = (x[rows] @ x[rows].T).topk(min(20, len(rows)), dim=1).values.mean(dim=1)
        chosen.append(int(rows[near.argmax()]))
    return torch.tensor(chosen)


ARMS: Mapping[str, Choice] = {
    "random": at_random,
    "margin": margin,
    "turns": turns,
    "spread": spread,
    "typical": typical,
}


def accuracies(run: Encodings, setting: str, choose: Choice, seed: Sequence[int]) -> list[float]:
    """Return the accuracy over the collection before, after 20 and after 50 labels."""
    generator = np.random.default_rng(seed)
    new = [i for i, c in enumerate(run.classes) if c == NEW_CLASS]
    extra = sorted(generator.permutation(new)[:NEW].tolist()) if setting == "two new" else []
    names = torch.tensor([*run.trained, *extra])
    place = torch.full((len(run.classes),), -1)
    place[names] = torch.arange(len(names))
    rows = torch.isin(run.truth, names).nonzero()[:, 0]
    x, truth = run.images[0.0][rows], place[run.truth[rows]]
    shots = torch.cat(
        [
            torch.from_numpy(generator.permutation((run.shot_labels == k).nonzero()[:, 0].numpy())[:SHOTS])
            for k in range(len(run.trained))
        ]
    )
    features, labels = run.shots[0.0][shots], run.shot_labels[shots]
    known = torch.zeros(len(x), dtype=torch.bool)
    found = []
    for n in (*ROUNDS, 0):
        trained = set(labels.tolist())
        classes = [i if i in trained else NEW_CLASS for i in range(len(names))]
        rule = PrototypeClassifier(features, labels).rule(run.texts[0.0][names], classes)
        p = (LOGIT_SCALE * rule.scores(x)).softmax(dim=1)
        found.append(float(((p.argmax(dim=1) == truth) | known).double().mean()))
        if n:
            free = (~known).nonzero()[:, 0]
            picked = free[choose(p[free], x[free], n, generator)]
            known[picked] = True
            features, labels = torch.cat([features, x[picked]]), torch.cat([labels, truth[picked]])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args(arguments)
    runs = stored_series(cast(Backbone, SimpleNamespace(name=options.backbone)), options.out)[
        "half, 16 shots"
    ]
    sets = list(dict.fromkeys(name for name, _ in runs))
    values = np.array(
        [
            [
                [
                    [accuracies(run, setting, choose, (split, draw)) for draw in range(DRAWS)]
                    for setting in SETTINGS
                ]
                for (_, split), run in runs.items()
            ]
            for choose in ARMS.values()
        ]
    )  # [arms, runs, settings, draws, 3]
    of_set = np.array([name for name, _ in runs])
    by_set = np.stack(
        [values[:, of_set == name].mean(axis=(1, 3)) for name in sets], axis=1
    )  # [arms, sets, settings, 3]
    mean = by_set[..., 1:].mean(axis=(2, 3))  # [arms, sets]
    gain = mean - mean[0]
    drawn = np.random.default_rng(0).integers(0, len(sets), (10_000, len(sets)))
    table = Table(
        f"Accuracy over the collection, {len(sets)} sets, {len(runs)} runs",
        [
            "arm",
            *(f"{setting}, {n} labels" for setting in SETTINGS for n in (0, 20, 50)),
            "mean of 20 and 50",
            "less random",
            "worst set",
        ],
    )
    for arm, name in enumerate(ARMS):
        low, high = np.percentile(gain[arm][drawn].mean(axis=1), [2.5, 97.5])
        table.rows.append(
            [
                name,
                *(figure(float(v)) for v in by_set[arm].mean(axis=0).ravel()),
                figure(float(mean[arm].mean())),
                f"{gain[arm].mean():+.3f} [{low:+.3f}, {high:+.3f}]",
                f"{gain[arm].min():+.3f} ({sets[int(gain[arm].argmin())]})",
            ]
        )
    Console(width=250).print(table.markdown() + "\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
