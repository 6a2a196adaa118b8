"""Images that the pre-trained network answers, scored on stored features (benchmarks/plans/untrained.md).

    python -m benchmarks.accuracy.untrained --out FOLDER

The runs below --out are those of `benchmarks.accuracy.encodings`. No image and no training is needed.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings, read, store_of
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.pile import Support, limit_of
from core.clip.inference.request_rule import adapted_rule
from core.clip.models.backbone import Backbone

LOGIT_SCALE = 40.0
"""The starter's."""
ALPHA = 0.5
SERVED, PREVIOUS = "served", "stock"
Limit = Callable[[Support], float]
NameLimit = Callable[[Tensor], Tensor]


def other_classes(quantile: float) -> Limit:
    """Quantile of each shot's similarity to the means of the other classes."""

    def limit(support: Support) -> float:
        near = support.features @ support.means.T
        return float(np.quantile(np.where(support.members > 0, -np.inf, near).max(axis=1), quantile))

    return limit


def left_out(lost: float) -> Limit:
    """Lower bound for a new image of the classes, by the shots left out of their class."""
    return lambda support: limit_of(support.near_left_out, lost)


ARMS: Mapping[str, tuple[float, Limit, NameLimit | None]] = {
    "F: other classes, 5%": (ALPHA, other_classes(0.05), None),
    "F and an unrelated name": (ALPHA, other_classes(0.05), Tensor.mean),
    "F and an unrelated name, least": (ALPHA, other_classes(0.05), Tensor.min),
    "other classes, 10%, and an unrelated name": (ALPHA, other_classes(0.1), Tensor.mean),
    "other classes, 25%, and an unrelated name": (ALPHA, other_classes(0.25), Tensor.mean),
    "other classes, 50%, and an unrelated name": (ALPHA, other_classes(0.5), Tensor.mean),
    "left-out shots, 1%, and an unrelated name": (ALPHA, left_out(0.01), Tensor.mean),
    "other classes, 25%": (ALPHA, other_classes(0.25), None),
    "other classes, 50%": (ALPHA, other_classes(0.5), None),
    "other classes, 95%": (ALPHA, other_classes(0.95), None),
    "left-out shots, 0.1%": (ALPHA, left_out(0.001), None),
    "left-out shots, 1%": (ALPHA, left_out(0.01), None),
    "left-out shots, 5%": (ALPHA, left_out(0.05), None),
    "all images twice: other classes, 5%": (0.0, other_classes(0.05), None),
    "all images twice: other classes, 50%": (0.0, other_classes(0.5), None),
    "all images twice: left-out shots, 1%": (0.0, left_out(0.01), None),
}
"""α of the compared features, the limit of the images, and the limit of the names: a function of each
trained name's similarity to the nearest other one."""
MEASURES = ("unrelated", "N", "beside trained", "all", "mixed B", "mixed N", "as before: unrelated")
SHARES = ("trained", "new", "unrelated")
"""Images that the pre-trained network answers: of trained classes, of the other classes, unrelated ones."""


Outcome = tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, np.ndarray]]
Runs = Mapping[tuple[str, int], Outcome]


def outcomes(run: Encodings) -> Outcome:
    """Return accuracies, shares, and which unrelated images are right [M], by arm."""
    support = {a: Support.of(run.shots[a].numpy(), run.shot_labels.numpy()) for a in (0.0, ALPHA)}

    def unlike(arm: str, images: Mapping[float, Tensor]) -> Tensor:
        if arm in (SERVED, PREVIOUS):
            return torch.full((len(images[ALPHA]),), arm == PREVIOUS)
        alpha, limit, _ = ARMS[arm]
        near = images[alpha] @ torch.from_numpy(support[alpha].means).T
        return near.amax(dim=1) < limit(support[alpha])

    arms = [PREVIOUS, SERVED, *ARMS]
    of_set = {arm: unlike(arm, run.images) for arm in arms}
    of_unrelated = {arm: unlike(arm, run.unrelated_images) for arm in arms}
    is_new = torch.tensor([c == NEW_CLASS for c in run.classes])
    new_image = is_new[run.truth]
    values: dict[str, dict[str, float]] = {arm: {} for arm in arms}
    right: dict[str, np.ndarray] = {}

    known = run.texts[0.0][~is_new]
    among = (known @ known.T - 2 * torch.eye(len(known))).amax(dim=1)

    def answer(
        images: Mapping[float, Tensor], texts: Mapping[float, Tensor], classes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the answers of both networks, and how near the name of the second is to a trained one."""
        shots = run.shots[ALPHA], run.shot_labels
        adapted = adapted_rule(shots, texts[ALPHA], classes, LOGIT_SCALE).scores(images[ALPHA])
        stock = (images[0.0] @ texts[0.0].T).argmax(dim=1)
        return adapted.argmax(dim=1), stock, (texts[0.0] @ known.T).amax(dim=1)[stock]

    def add(
        measure: str,
        answers: tuple[Tensor, Tensor, Tensor],
        truth: Tensor,
        unlike: Mapping[str, Tensor],
        counts: Tensor | None = None,
    ) -> None:
        adapted, stock, near = answers
        counts = torch.ones_like(truth, dtype=torch.bool) if counts is None else counts
        for arm in arms:
            replaced, limit = unlike[arm], ARMS[arm][2] if arm in ARMS else None
            if limit is not None:
                replaced = replaced & (near < limit(among))
            answered = torch.where(replaced, stock, adapted)
            values[arm][measure] = float((answered == truth)[counts].double().mean())
            if measure in ("N", "unrelated") and arm == next(iter(ARMS)):
                sent = replaced & counts
                right[f"sent: {measure}"] = np.array(
                    [int(rows[sent].sum()) for rows in (counts, adapted == truth, stock == truth)]
                )
            if measure == "unrelated":
                right[arm] = (answered == truth).double().numpy()
            values[arm][f"as before: {measure}"] = float((answered == stock)[counts].double().mean())

    mixed = answer(run.images, run.texts, run.classes)
    add("all", mixed, run.truth, of_set)
    add("mixed B", mixed, run.truth, of_set, ~new_image)
    add("mixed N", mixed, run.truth, of_set, new_image)
    names = is_new.nonzero()[:, 0]
    of_names = {a: texts[names] for a, texts in run.texts.items()}
    adapted, stock, near = answer(run.images, of_names, [NEW_CLASS] * len(names))
    add("N", (names[adapted], names[stock], near), run.truth, of_set, new_image)
    trained = (~is_new).nonzero()[:, 0]
    for measure, listed in (("unrelated", trained[:0]), ("beside trained", trained)):
        texts = {a: torch.cat([run.texts[a][listed], run.unrelated_texts[a]]) for a in (0.0, ALPHA)}
        classes = [run.classes[i] for i in listed.tolist()] + [NEW_CLASS] * len(run.unrelated_truth)
        found = answer(run.unrelated_images, texts, classes)
        add(measure, found, run.unrelated_truth + len(listed), of_unrelated)
    shares = {
        arm: {
            "trained": float(of_set[arm][~new_image].double().mean()),
            "new": float(of_set[arm][new_image].double().mean()),
            "unrelated": float(of_unrelated[arm].double().mean()),
        }
        for arm in ARMS
    }
    return values, shares, right


def stored(out: Path) -> dict[tuple[str, int], Encodings]:
    """Return the stored runs by set and draw."""
    pattern = re.compile(r"([^/]+)/split(\d+)-.*/features")
    store = store_of(cast(Backbone, SimpleNamespace(name="starter")), out)
    found = {}
    for key in sorted(store.names()):
        if match := pattern.fullmatch(key):
            run = store.get(key)
            assert run is not None
            found[match[1], int(match[2])] = read(run)
    return found


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    runs = {key: outcomes(run) for key, run in stored(parser.parse_args(arguments).out).items()}
    draws = sorted({draw for _, draw in runs})
    for chosen in ([draw] for draw in draws):
        tables(f"Draw {chosen[0]}", {key: run for key, run in runs.items() if key[1] in chosen})
    tables("All draws", runs)


def tables(title: str, runs: Runs) -> None:
    """Print accuracies and shares, means over sets of the means over draws, and the conditions."""
    by_set: dict[str, list[Outcome]] = defaultdict(list)
    for (name, _), run in runs.items():
        by_set[name].append(run)

    def of_set(part: int, arm: str, measure: str) -> dict[str, float]:
        return {name: float(np.mean([r[part][arm][measure] for r in rs])) for name, rs in by_set.items()}

    def mean(part: int, arm: str, measure: str) -> float:
        return float(np.mean(list(of_set(part, arm, measure).values())))

    print(f"\n## {title}: {len(by_set)} sets, {len(runs)} runs\n")
    print("| arm |", " | ".join([*MEASURES, *(f"twice: {s}" for s in SHARES)]), "|")
    print("|---|" + "---:|" * (len(MEASURES) + len(SHARES)))
    for arm in [PREVIOUS, SERVED, *ARMS]:
        cells = [f"{mean(0, arm, m):.4f}" for m in MEASURES]
        cells += [f"{mean(1, arm, s):.3f}" if arm in ARMS else "" for s in SHARES]
        print(f"| {arm} |", " | ".join(cells), "|")
    print(
        "\n| arm | unrelated − stock ≥ −.003 | N − served ≥ −.003 | all − served ≥ −.003 |"
        " worst set ≥ −.015 | trained sent ≤ .03 | untrained | mixed |"
    )
    print("|---|---:|---:|---:|---:|---:|---|---|")
    for arm in ARMS:
        kept = mean(0, arm, "unrelated") - mean(0, PREVIOUS, "unrelated")
        gains = [np.mean([r[2][arm] - r[2][PREVIOUS] for r in rs], axis=0) for rs in by_set.values()]
        each = np.mean(gains, axis=0)
        related = mean(0, arm, "N") - mean(0, SERVED, "N")
        both = mean(0, arm, "all") - mean(0, SERVED, "all")
        served = of_set(0, SERVED, "all")
        losses = {name: value - served[name] for name, value in of_set(0, arm, "all").items()}
        worst = min(losses, key=lambda name: losses[name])
        sent = mean(1, arm, "trained")
        untrained = kept >= -0.003 and related >= -0.003 and sent <= 0.03
        mixed = untrained and both >= -0.003 and losses[worst] >= -0.015
        cells = [
            f"{signed(kept)} ± {1.96 * each.std(ddof=1) / np.sqrt(len(each)):.4f}",
            signed(related),
            signed(both),
            f"{signed(losses[worst])} {worst}",
            f"{sent:.4f}",
        ]
        print(
            f"| {arm} |", " | ".join([*cells, *("holds" if x else "fails" for x in (untrained, mixed))]), "|"
        )
    for measure in ("N", "unrelated"):
        count, adapted, stock = sum(run[2][f"sent: {measure}"] for run in runs.values())
        print(f"\nF sends {count} images of {measure}. Right: {adapted / count:.3f} and {stock / count:.3f}.")
    print(
        "\n| set |",
        " | ".join(
            f"{m} {a}"
            for m in ("unrelated", "N", "all", "trained sent")
            for a in ("stock", "served", "F")
            if m != "trained sent" or a == "F"
        ),
        "|",
    )
    first = next(iter(ARMS))
    for name in by_set:
        cells = [
            f"{of_set(0, a, m)[name]:.3f}"
            for m in ("unrelated", "N", "all")
            for a in (PREVIOUS, SERVED, first)
        ]
        print(f"| {name} |", " | ".join([*cells, f"{of_set(1, first, 'trained')[name]:.3f}"]), "|")


if __name__ == "__main__":
    main()
