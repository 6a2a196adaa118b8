"""Self-training of closed collections, as it is served and without its conditions, on stored features.

    python -m benchmarks.accuracy.collections --out benchmarks/results

The runs below --out are those of `benchmarks.accuracy.encodings`. No image and no training is needed.
"""

import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from rich.console import Console

from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.rules import ALPHA, stored_series
from benchmarks.accuracy.tables import Table, figure
from benchmarks.run_store import runs_parser
from core.clip.inference.request_rule import request_rule
from core.clip.inference.self_training import self_trained
from core.serving.collection import rule_or_reason
from core.serving.texts import HeldModel, RequestClassifier

DRAWS, LOGIT_SCALE = 5, 100.0
SERIES = "half, 16 shots"
COLLECTIONS = {
    "equal": "all test images of the trained classes",
    **{f"{size} images": "at random" for size in (10, 20, 50, 100)},
    "20 per class": "20 of each",
    "5 per class": "5 of each",
    "unequal": "shares of the classes from Dirichlet(1)",
    "half of the classes": "of the others there is none",
    "half unrelated": "and as many of ImageNet's other images",
    "half other classes": "and the images of the set's other classes",
}


def drawn(run: Encodings, kind: str, seed: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows [M] of the scored test images, and the features [N, D] of others in the collection."""
    generator, truth = np.random.default_rng(seed), run.truth.numpy()
    own = {c: generator.permutation(np.flatnonzero(truth == c)) for c in run.trained}
    counts = {c: len(rows) for c, rows in own.items()}
    others = run.images[ALPHA][:0]
    if kind.endswith("per class"):
        counts = dict.fromkeys(own, int(kind.split()[0]))
    elif kind == "unequal":
        shares = generator.dirichlet(np.ones(len(own)))
        most = min(counts[c] / share for c, share in zip(own, shares, strict=True))
        counts = {c: int(most * share) for c, share in zip(own, shares, strict=True)}
    elif kind == "half of the classes":
        counts |= dict.fromkeys(generator.permutation(list(own))[: (len(own) + 1) // 2].tolist(), 0)
    elif kind == "half unrelated":
        others = run.unrelated_images[ALPHA][: sum(counts.values())]
    elif kind == "half other classes":
        others = run.images[ALPHA][torch.from_numpy(~np.isin(truth, run.trained))]
    chosen = np.concatenate([rows[: counts[c]] for c, rows in own.items()])
    if kind.endswith("images"):
        chosen = generator.permutation(chosen)[: int(kind.split()[0])]
    return torch.from_numpy(chosen), others


def support_set(run: Encodings, shots: int, seed: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features and labels of `shots` random shots per class."""
    generator, labels = np.random.default_rng(seed), run.shot_labels.numpy()
    chosen = [generator.permutation(np.flatnonzero(labels == c))[:shots] for c in range(len(run.trained))]
    kept = torch.from_numpy(np.concatenate(chosen))
    return run.shots[ALPHA][kept], run.shot_labels[kept]


def accuracies(
    run: Encodings, kind: str, count: int, seed: Sequence[int]
) -> tuple[float, float, float, bool]:
    """Return the accuracy image by image, with self-training and as served, and whether these two are one."""
    rows, others = drawn(run, kind, seed)
    images, shots = run.images[ALPHA][rows], support_set(run, count, seed)
    features = torch.cat([images, others])
    texts, classes = run.texts[ALPHA][list(run.trained)], tuple(range(len(run.trained)))
    alone = request_rule(shots, texts, classes)
    trained = self_trained(shots, texts, classes, features, LOGIT_SCALE)
    classifier = SimpleNamespace(
        names=list(map(str, classes)), classes=classes, rule=alone, text_features=texts
    )
    network = SimpleNamespace(shots=shots, backbone=SimpleNamespace(logit_scale=LOGIT_SCALE))
    served = rule_or_reason(
        features,
        cast(RequestClassifier, classifier),
        cast(HeldModel, SimpleNamespace(served=network, preview=None)),
        0.35,
    )
    place = {label: i for i, label in enumerate(run.trained)}
    truth = torch.tensor([place[label] for label in run.truth[rows].tolist()])
    by_image, after = (
        (rule.scores(images).argmax(dim=1) == truth).float().mean() for rule in (alone, trained)
    )
    used = not isinstance(served, str)
    return float(by_image), float(after), float(after if used else by_image), used


def gain(differences: np.ndarray) -> str:
    """Return the mean over sets, its 95% interval over resampled sets, and the worst set."""
    sets = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[sets].mean(axis=1), [2.5, 97.5])
    text = f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}], {differences.min():+.3f}"
    return text.replace("-", "−")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = runs_parser(__doc__)
    parser.add_argument("--shots", type=int, default=16, help="shots per class in the support set")
    options = parser.parse_args(arguments)
    runs = stored_series(options.backbone, options.out)[SERIES]
    table = Table(
        f"Closed collections, {options.shots} shots, {len(runs)} runs",
        ["collection", "by image", "self-training", "as served", "self-trained"],
        note="Gains over image by image: mean over sets, 95% interval over sets, worst set.",
    )
    for kind, meaning in COLLECTIONS.items():
        by_set: dict[str, list[tuple[float, float, float, bool]]] = {}
        for (name, split), run in runs.items():
            for draw in range(DRAWS):
                seed = [split, zlib.crc32(kind.encode()), draw]
                by_set.setdefault(name, []).append(accuracies(run, kind, options.shots, seed))
        alone, trained, served, used = np.array([np.mean(rows, axis=0) for rows in by_set.values()]).T
        gains = [gain(trained - alone), gain(served - alone)]
        table.rows.append([f"{kind}: {meaning}", figure(float(alone.mean())), *gains, f"{used.mean():.0%}"])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
