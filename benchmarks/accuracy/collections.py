"""Rules that use a whole collection as evidence (benchmarks/plans/collection.md), on stored features.

    python -m benchmarks.accuracy.collections --out benchmarks/results

The runs below --out are those of `benchmarks.accuracy.encodings`. No image and no training is needed.
"""

import argparse
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.arms import ALPHA, Request, served, shot_means, similarity_to_other_classes, stock
from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.measures import Floats, harmonic_mean
from benchmarks.accuracy.rules import stored_series
from benchmarks.accuracy.tables import Table, figure
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.request_rule import TEXT_COUNTS_AS, request_rule
from core.clip.models.backbone import Backbone

DRAWS, ROUNDS, SCALE, NEIGHBOURS = 3, 5, 20.0, 3
SERIES = "half, 16 shots"
LATEST = ("symbols", "living", "things")
"""Sets that no decision before the plan one-rule has used."""
COLLECTIONS = ("clean", "unequal", "5 per class", "half unrelated", "only trained", "only new", "one new")
SIZES = (10, 20, 100)
CLOSED = "closed, self-training"


@dataclass(frozen=True)
class Collection:
    """Images of a run, and the names that are asked."""

    rows: Tensor
    """[M], scored test images."""
    names: Tensor
    """[C'], labels of the candidates."""
    unrelated: int = 0
    """Number of unrelated images beside them."""


def collections(run: Encodings, kind: str, generator: np.random.Generator) -> Collection:
    """Draw a collection of this kind, one of COLLECTIONS or a number of images."""
    classes, truth = np.array(run.classes), run.truth.numpy()
    new, everything = np.flatnonzero(classes == NEW_CLASS), np.arange(len(classes))
    names, rows = everything, np.arange(len(truth))
    if kind == "unequal":
        shares, available = generator.dirichlet(np.ones(len(everything))), np.bincount(truth)
        counts = np.floor(shares * (available / shares).min()).astype(int)
        rows = np.concatenate(
            [generator.permutation(np.flatnonzero(truth == c))[: counts[c]] for c in everything]
        )
    elif kind == "5 per class":
        rows = np.concatenate([generator.permutation(np.flatnonzero(truth == c))[:5] for c in everything])
    elif kind in ("only trained", CLOSED):
        rows = np.flatnonzero(~np.isin(truth, new))
        names = everything if kind == "only trained" else np.setdiff1d(everything, new)
    elif kind == "only new":
        rows = np.flatnonzero(np.isin(truth, new))
    elif kind == "one new":
        names = np.union1d(np.setdiff1d(everything, new), generator.choice(new, 1))
        rows = np.flatnonzero(np.isin(truth, names))
    elif kind.isdigit():
        rows = generator.permutation(rows)[: int(kind)]
    unrelated = len(rows) if kind == "half unrelated" else 0
    return Collection(
        torch.from_numpy(rows), torch.from_numpy(names), min(unrelated, len(run.unrelated_truth))
    )


def survival_ratios(
    run: Encodings, similarity: Tensor, levels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the shares of a collection [T] and of the shots [T] at least as similar to the class means as t.

    Args:
        similarity: [M], of the collection, at α 0.
        levels: quantiles of the shots that are the thresholds; None = each shot.
    """
    shots, labels = run.shots[0.0], run.shot_labels
    sums = torch.stack([shots[labels == k].sum(dim=0) for k in range(len(run.trained))])
    own = (F.normalize(sums[labels] - shots, dim=-1) * shots).sum(dim=1)
    left_out = torch.maximum(own, similarity_to_other_classes(run))
    thresholds = left_out if levels is None else left_out.quantile(levels)

    def survival(values: Tensor) -> Tensor:
        return (values[None] >= thresholds[:, None]).double().mean(dim=1)

    return survival(similarity), survival(left_out)


def share_of_trained(run: Encodings, similarity: Tensor) -> float:
    of_images, of_shots = survival_ratios(run, similarity, torch.linspace(0.1, 0.7, 13))
    ratios = of_images / of_shots
    return float((ratios.min().clamp(max=1) + ratios.median().clamp(max=1)) / 2)


def bounded_share(run: Encodings, similarity: Tensor) -> float:
    """Estimate the share by best bin estimation (Garg et al. 2021, arXiv 2111.00980)."""
    of_images, of_shots = survival_ratios(run, similarity)
    best = ((of_images + (np.log(40) / 2 / len(similarity)) ** 0.5) / of_shots).argmin()
    return float((of_images / of_shots)[best].clamp(max=1))


def by_image(run: Encodings, collection: Collection) -> Tensor:
    """Return the answers [M] of the served rule, as labels."""
    return _answer(served, run, {a: run.images[a][collection.rows] for a in (0.0, ALPHA)}, collection)


def _answer(
    rule: Callable[[Encodings, Request], Tensor],
    run: Encodings,
    images: Mapping[float, Tensor],
    collection: Collection,
) -> Tensor:
    names = collection.names
    texts = {alpha: run.texts[alpha][names] for alpha in (0.0, ALPHA)}
    request = Request(images, texts, [run.classes[i] for i in names.tolist()])
    return names[rule(run, request).argmax(dim=1)]


def as_collection(
    share: Callable[[Encodings, Tensor], float] | None = share_of_trained,
    *,
    neighbours: bool = False,
    moved: bool = False,
) -> Callable[[Encodings, Collection], Tensor]:
    """Return the arm with this estimate of the share; None = the true one."""

    def answers(run: Encodings, collection: Collection) -> Tensor:
        names, rows, extra = collection.names, collection.rows, collection.unrelated
        images = {a: torch.cat([run.images[a][rows], run.unrelated_images[a][:extra]]) for a in (0.0, ALPHA)}
        found = _answer(stock, run, images, collection)
        similarity = (images[0.0] @ shot_means(run).T).amax(dim=1)
        inside = similarity >= similarity_to_other_classes(run).quantile(0.05)
        classes = torch.tensor(run.classes)[names]
        is_new = classes == NEW_CLASS
        if share is None:
            truth = torch.cat([run.truth[rows], run.truth.new_full((extra,), -1)])
            known = torch.isin(truth, names[~is_new])[inside]
            part = float(known.float().mean()) if len(known) else 1.0
        else:
            part = share(run, similarity[inside]) if inside.any() else 1.0
        if inside.any():
            x = images[ALPHA][inside]
            trained = _answer(
                served, run, {0.0: images[0.0][inside], ALPHA: x}, Collection(rows, names[~is_new])
            )
            weights, gamma = _fit(run, x, names, classes, part, neighbours=neighbours, moved=moved)
            scores = x @ weights.T
            lead = scores[:, ~is_new].amax(dim=1) - scores[:, is_new].amax(dim=1)
            untrained = names[is_new][scores[:, is_new].argmax(dim=1)]
            found[inside] = torch.where(lead > gamma, trained, untrained)
        return found[: len(rows)]

    return answers


def _fit(
    run: Encodings, x: Tensor, names: Tensor, classes: Tensor, share: float, *, neighbours: bool, moved: bool
) -> tuple[Tensor, float]:
    """Return the weights [C, D] of all names and γ, after ROUNDS rounds on the collection x [M, D]."""
    texts, shots, labels = run.texts[ALPHA][names], run.shots[ALPHA], run.shot_labels
    is_new = classes == NEW_CLASS
    order = classes[~is_new]
    n = torch.bincount(labels, minlength=len(run.trained)).float()[order]
    means = F.normalize(torch.stack([shots[labels == k].mean(dim=0) for k in order.tolist()]), dim=-1)
    heads = F.normalize(
        texts[~is_new] + (n / (n + TEXT_COUNTS_AS))[:, None] * (means - means.mean(dim=0)), dim=-1
    )
    weights = texts.clone()
    weights[~is_new] = heads
    nearest = (x @ x.T).fill_diagonal_(-1).topk(min(NEIGHBOURS, len(x) - 1), dim=1).indices
    assigned = None
    for number in range(ROUNDS + 1):
        scores = x @ weights.T
        lead = scores[:, ~is_new].amax(dim=1) - scores[:, is_new].amax(dim=1)
        gamma = float(lead.quantile(1 - share)) if 0 < share < 1 else (-9.0 if share >= 1 else 9.0)
        if number == ROUNDS:
            break
        scores[:, ~is_new] -= gamma
        logits = SCALE * scores
        if neighbours and assigned is not None and nearest.shape[1]:
            logits = logits + assigned[nearest].mean(dim=1)
        assigned = logits.softmax(dim=1)
        count = assigned.sum(dim=0)
        centres = F.normalize(assigned.T @ x / count[:, None].clamp(min=1e-6), dim=-1)
        if moved:
            both = n[:, None] * means + (assigned.T @ x)[~is_new]
            centres[~is_new] = F.normalize(both, dim=-1)
            count[~is_new] += n
        else:
            centres[~is_new], count[~is_new] = means, n
        weights = F.normalize(
            texts + (count / (count + TEXT_COUNTS_AS))[:, None] * (centres - centres.mean(dim=0)), dim=-1
        )
        if not moved:
            weights[~is_new] = heads
    return weights, gamma


def self_trained(run: Encodings, collection: Collection) -> Tensor:
    """Return the answers [M] of the closed rule, whose shots the surer 80% of each class join three times."""
    names, x = collection.names, run.images[ALPHA][collection.rows]
    texts, classes = run.texts[ALPHA][names], [run.classes[i] for i in names.tolist()]
    shots, labels = run.shots[ALPHA], run.shot_labels
    for _ in range(3):
        probability, chosen = (
            (100 * request_rule((shots, labels), texts, classes).scores(x)).softmax(dim=1).max(dim=1)
        )
        shots, labels = run.shots[ALPHA], run.shot_labels
        for place, own in enumerate(classes):
            mine = (chosen == place).nonzero()[:, 0]
            sure = mine[probability[mine].argsort(descending=True)[: int(0.8 * len(mine))]]
            shots, labels = (
                torch.cat([shots, x[sure]]),
                torch.cat([labels, labels.new_full((len(sure),), own)]),
            )
    return names[request_rule((shots, labels), texts, classes).scores(x).argmax(dim=1)]


SERVED = "served"
ARMS: Mapping[str, Callable[[Encodings, Collection], Tensor]] = {
    SERVED: by_image,
    "share": as_collection(),
    "share, bound": as_collection(bounded_share),
    "share, neighbours": as_collection(neighbours=True),
    "share, moved": as_collection(moved=True),
    "known share": as_collection(None),
}
CLOSED_ARMS = {SERVED: by_image, "self-training": self_trained}


def measured(
    runs: Mapping[tuple[str, int], Encodings], kind: str, arms: Mapping[str, object]
) -> dict[str, Floats]:
    """Return accuracy and mixed HM [sets, 2] of each arm, the mean over draws, then splits."""
    sets = list(dict.fromkeys(name for name, _ in runs))
    values: dict[str, list[list[tuple[float, float]]]] = {arm: [[] for _ in sets] for arm in arms}
    for (name, split), run in runs.items():
        of_new = (torch.tensor(run.classes) == NEW_CLASS)[run.truth]
        for draw in range(1 if kind in ("clean", "only trained", "only new", CLOSED) else DRAWS):
            generator = np.random.default_rng([split, zlib.crc32(kind.encode()), draw])
            collection = collections(run, kind, generator)
            new = of_new[collection.rows]
            for arm in arms:
                hit = (arms[arm](run, collection) == run.truth[collection.rows]).double()  # type: ignore[operator]
                parts = [float(hit[rows].mean()) if rows.any() else float("nan") for rows in (~new, new)]
                values[arm][sets.index(name)].append(
                    (float(hit.mean()), float(harmonic_mean(*map(np.array, parts))))
                )
    return {arm: np.array([np.mean(rows, axis=0) for rows in values[arm]]) for arm in arms}


def gains(found: Mapping[str, Floats], arm: str, base: str = SERVED) -> str:
    """Return the mean of *all*, its gain and the gain's 95% interval over sets."""
    values, gain = found[arm][:, 0], found[arm][:, 0] - found[base][:, 0]
    drawn = np.random.default_rng(0).integers(0, len(gain), (10_000, len(gain)))
    low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
    shown = "" if arm == base else f" ({gain.mean():+.3f} [{low:+.3f}, {high:+.3f}])"
    return f"{figure(float(values.mean()))}{shown}".replace("-", "−")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args(arguments)
    runs = stored_series(cast(Backbone, SimpleNamespace(name=options.backbone)), options.out)[SERIES]
    kinds = [*COLLECTIONS, *map(str, SIZES)]
    table = Table(f"Collections: accuracy over all images, {len(runs)} runs", ["collection", *ARMS])
    worst = Table(
        "Mixed HM of clean; smallest gain over a set of clean; latest sets",
        ["arm", "HM", "worst set", "all, latest"],
    )
    found = {kind: measured(runs, kind, ARMS) for kind in kinds}
    for kind in kinds:
        table.rows.append([kind, *(gains(found[kind], arm) for arm in ARMS)])
    large = [kind for kind in kinds if kind != "10"]
    mean = {arm: np.mean([found[kind][arm] for kind in large], axis=0) for arm in ARMS}
    table.rows.append(["mean, at least 20 images", *(gains(mean, arm) for arm in ARMS)])
    sets = list(dict.fromkeys(name for name, _ in runs))
    latest = [sets.index(name) for name in LATEST if name in sets]
    for arm in ARMS:
        clean, base = found["clean"][arm], found["clean"][SERVED]
        worst.rows.append(
            [
                arm,
                figure(float(clean[:, 1].mean())),
                figure(float((clean - base)[:, 0].min())),
                gains({a: f[latest] for a, f in mean.items()}, arm),
            ]
        )
    closed = measured(runs, CLOSED, CLOSED_ARMS)
    alone = Table("Closed collections", ["arm", "accuracy", "worst set"])
    for arm in CLOSED_ARMS:
        alone.rows.append(
            [arm, gains(closed, arm), figure(float((closed[arm] - closed[SERVED])[:, 0].min()))]
        )
    for one in (table, worst, alone):
        Console(width=200).print(one.markdown() + "\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
