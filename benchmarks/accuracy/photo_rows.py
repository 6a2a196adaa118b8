"""Estimates of a job whose photos were taken in rows, with rows in one fold and as before.

    python -m benchmarks.accuracy.photo_rows --data clothing cifar10 trashnet signs clipart
    --out benchmarks/results

benchmarks/plans/rows-of-photos.md decides. Rows are made of four views of a photo. Instead of fold models,
the instant preview answers, so that nothing is trained.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageEnhance
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.paper import load_for, parser, read_sets
from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes, draw_shots
from benchmarks.methods.common.task import read_image
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.checks.near_duplicates import find_originals
from core.clip.data import splits
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone
from core.clip.models.features import build_zero_shot_classifier, image_features
from core.clip.prompts import class_prompts

PHOTOS, VIEWS, TESTS = 4, 4, 30
LIMITS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of the median distance in the class."""
SPLITS, SEEDS = range(56, 66), range(4)


def view(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return another view: turned, cropped, with other light."""
    turned = image.rotate(
        generator.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0))
    )
    share = np.sqrt(generator.uniform(0.6, 0.9))
    width, height = (max(8, round(share * side)) for side in image.size)
    left, top = (
        round(generator.uniform(0, whole - part))
        for whole, part in zip(image.size, (width, height), strict=True)
    )
    cropped = turned.crop((left, top, left + width, top + height))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        cropped = change(cropped).enhance(generator.uniform(0.75, 1.25))
    return cropped


def encoded(backbone: Backbone, images: Sequence[Image.Image]) -> Tensor:
    parts = [images[i : i + 64] for i in range(0, len(images), 64)]
    return torch.cat(
        [
            image_features(backbone.model, torch.stack([backbone.preprocess(i) for i in part]))
            for part in parts
        ]
    )


def copies_of(images: Sequence[Image.Image], labels: Sequence[int]) -> list[int]:
    def small(image: Image.Image) -> Image.Image:
        grey = image.convert("L")
        grey.thumbnail((4 * SIDE, 4 * SIDE))
        return grey

    return find_originals([measure_image(small(i)) for i in images], list(map(str, labels)))


def accuracy(texts: Tensor, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    rule = PrototypeClassifier(*train).rule(texts, range(len(texts)))
    return float((rule.scores(test[0]).argmax(dim=1) == test[1]).float().mean())


def estimate(texts: Tensor, features: Tensor, labels: Tensor, folds: Sequence[Sequence[int]]) -> float:
    """Return the share of held-out images that the rest predicts."""
    right = 0.0
    for fold in folds:
        held = torch.zeros(len(labels), dtype=torch.bool)
        held[list(fold)] = True
        if len(labels[~held].unique()) < len(texts):
            return float("nan")
        right += len(fold) * accuracy(texts, (features[~held], labels[~held]), (features[held], labels[held]))
    return right / max(1, sum(map(len, folds)))


def jobs_of(data: DataSet, backbone: Backbone) -> dict[str, object]:
    """Return joined shares by limit, and per job the truth and the estimates."""
    generator, classes = np.random.default_rng(zlib.crc32(data.name.encode())), range(len(data.class_names))
    shots = {c: draw_shots(data.train, [c], PHOTOS * VIEWS, 56) for c in classes}
    images: dict[str, list[Image.Image]] = {"ordinary": [], "made rows": []}
    labels: dict[str, list[int]] = {"ordinary": [], "made rows": []}
    for c in classes:
        opened = [read_image(e.path, backbone).convert("RGB") for e in shots[c]]
        images["ordinary"] += opened
        images["made rows"] += [view(i, generator) for i in opened[:PHOTOS] for _ in range(VIEWS)]
        labels["ordinary"] += [c] * len(opened)
        labels["made rows"] += [c] * (len(opened[:PHOTOS]) * VIEWS)
    features = {kind: encoded(backbone, of_kind) for kind, of_kind in images.items()}
    tests = [e for c in classes for e in [e for e in data.test if e.label == c][:TESTS]]
    test = encoded(backbone, [read_image(e.path, backbone) for e in tests])
    test_labels = torch.tensor([e.label for e in tests])
    texts = build_zero_shot_classifier(
        backbone.model, backbone.tokenize, [class_prompts(name, data.templates) for name in data.class_names]
    )
    found: dict[str, object] = {}
    for kind in images:
        place = torch.tensor(labels[kind])
        within = (place[1:] == place[:-1]).numpy()
        if kind == "made rows":
            within &= np.arange(1, len(place)) % VIEWS != 0
        joined = {}
        for limit in LIMITS:
            splits.NEAR = limit
            number = np.array(splits.photo_rows(labels[kind], features[kind].numpy()))
            joined[str(limit)] = float((number[1:] == number[:-1])[within].mean())
        found[f"{kind}: pairs joined"] = joined
        originals = copies_of(images[kind], labels[kind])
        distinct = torch.tensor([i == original for i, original in enumerate(originals)])
        found[f"{kind}: copies"] = 1 - float(distinct.float().mean())
        rows = []
        for split in SPLITS:
            own = base_classes(split, len(data.class_names))
            here = torch.isin(place, torch.tensor(own))
            number_of = {c: i for i, c in enumerate(own)}

            def numbered(of: Tensor, number: dict[int, int] = number_of) -> Tensor:
                return torch.tensor([number[c] for c in of.tolist()])

            t = texts[own]
            in_test = torch.isin(test_labels, torch.tensor(own))
            x, y = features[kind][here], numbered(place[here])
            truth = accuracy(t, (x, y), (test[in_test], numbered(test_labels[in_test])))
            x, y = features[kind][here & distinct], numbered(place[here & distinct])
            for seed in SEEDS:
                today = estimate(t, x, y, splits.make_folds(y.tolist(), seed))
                row = {"truth": truth, "today": today}
                for limit in LIMITS:
                    splits.NEAR = limit
                    groups = splits.photo_rows(y.tolist(), x.numpy())
                    folds = splits.make_folds(y.tolist(), seed, groups)
                    row[f"rows {limit}"] = estimate(t, x, y, folds) if folds else float("nan")
                rows.append(row)
        found[kind] = rows
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__, ["stock"]).parse_args(arguments)
    backbone = load_for(options)
    found = {data.name: jobs_of(replace(data), backbone) for data in read_sets(options)}
    tables = [
        Table("Consecutive pairs joined", ["pairs", *map(str, LIMITS)]),
        Table(
            "Estimate less truth: mean (mean distance)",
            ["jobs", "truth", "today", *(f"rows {t}" for t in LIMITS), "copies"],
        ),
    ]
    for name, of_set in found.items():
        for kind in ("ordinary", "made rows"):
            joined = of_set[f"{kind}: pairs joined"]
            assert isinstance(joined, dict)
            tables[0].rows.append([f"{name}, {kind}", *(f"{joined[str(t)]:.3f}" for t in LIMITS)])
            rows = of_set[kind]
            assert isinstance(rows, list)
            truth = np.array([row["truth"] for row in rows])
            cells = []
            for arm in ("today", *(f"rows {t}" for t in LIMITS)):
                gap = np.array([row[arm] for row in rows]) - truth
                cells.append(f"{np.nanmean(gap):+.3f} ({np.nanmean(np.abs(gap)):.3f})".replace("-", "−"))
            tables[1].rows.append(
                [f"{name}, {kind}", f"{truth.mean():.3f}", *cells, f"{of_set[f'{kind}: copies']:.2f}"]
            )
    for table in tables:
        Console(width=200).print(table.markdown() + "\n", markup=False, soft_wrap=True)
    (options.out / f"photo-rows-{options.backbone}.json").write_text(
        json.dumps(found) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
