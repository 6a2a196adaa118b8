"""Plan: can the card show an accuracy nearer to the truth than that of two fold models?

    python -m benchmarks.plans.card run SETS --out card.jsonl     # resumes
    python -m benchmarks.plans.card table --out card.jsonl

Question: "41 % (likely 24 to 60)" where 57 % was true. The two fold models train on half of the photos each, and
the model on all. Is an estimate of the accuracy with all photos closer?

Sets: ten folders with `train/` and `test/`: clothing, cifar10, trashnet; stamps, clipart, symbols, living, things,
digits and signs of `benchmarks.data.prepare`. The truth is the accuracy on the test images of the same classes (at
most 40 per class).

Jobs, with the starter at 112 pixels:
- `preview`, without training: the instant preview in the place of the trained model; 5 classes with 6, 10 and 16
  images each, 20 draws of classes and images.
- `trained`: 4 classes of 6 images, the recipe, its two fold models and the model; as many draws, one after
  another, as the machine has time for (at least one of each set; two are meant).
- `stored`: the 15 true jobs of `benchmarks/results/runs-trust-starter-160px` (clothing, cifar10, stamps), for
  which only the constant correction can be computed.

Estimates of the accuracy:
- `folds`: as served. Two models on one half each; interval of `accuracy_interval`.
- `curve`: the learning curve of the same photos, without another training. The preview is cross-validated in two
  folds (the same) and in five (2 repeats, as the label issues do): wrong images e2 and e5 of n. The error of the
  folds and both ends of its interval are multiplied by r = (e5 + 1) / (e2 + 1), at least .5 and at most 1.
- `constant`: multiplied by one r, the ratio of the summed true errors to the summed fold errors of all other
  sets (leave one set out; from the preview jobs for preview and trained jobs; `stored` from the other two sets).
- `five`: five folds, each model on 4/5. Preview jobs alone: in a training they cost twice the whole model's
  training or 40% shorter models.

Adopted is the estimate with the smallest mean |estimate − truth| (mean over sets) that, against `folds`,
1. is closer by .010 or more over the preview jobs, and on no set further by more than .020;
2. is closer over the trained jobs (for `constant`, over the stored ones too);
3. has a coverage of its interval of .93 or more over the preview jobs, and of .90 over the trained ones;
4. claims too much, an estimate more than .10 above the truth, in at most 2 points more of the preview jobs than
   `folds` does.
Otherwise the card keeps the number of the folds and says in words that it is that of half of the photos.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.folders import read_folders
from benchmarks.run_store import RunStore
from benchmarks.trust.judging import judged
from benchmarks.trust.runs import Record
from clipcite.types.images import Image
from core.clip.config import resolve_config
from core.clip.data.splits import make_folds
from core.clip.evaluation.accuracy import accuracy_interval
from core.clip.evaluation.label_issues import cross_fit_scores
from core.clip.evaluation.predictions import balanced_scores
from core.clip.evaluation.context import Candidates
from core.clip.inference.pile import photos_of
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.pipeline import adapt
from core.clip.prompts import class_prompts
from core.settings import get_settings

SIZE, TESTS, DRAWS = 112, 40, 20
SHOTS = (6, 10, 16)
STORED = Path("benchmarks/results")
Right = NDArray[np.bool_]


class Features:
    """Features of the pre-trained network, computed once per image."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.of = backbone, dict[Path, torch.Tensor]()

    def __call__(self, paths: Sequence[Path]) -> torch.Tensor:
        new = [path for path in paths if path not in self.of]
        if new:
            images = [Image(path, "") for path in new]
            made = torch.cat(
                [image_features(self.backbone.model, p).cpu() for p in batches(self.backbone, images)]
            )
            self.of |= dict(zip(new, made, strict=True))
        return torch.stack([self.of[path] for path in paths])


def drawn(data: DataSet, classes: int, shots: int, seed: int) -> tuple[list[int], list[Any], list[Any]]:
    """Return the classes, the training images and the test images of a job."""
    of = sorted({e.label for e in data.test} & {e.label for e in data.train})
    chosen = sorted(np.random.default_rng(seed).permutation(of)[:classes].tolist())
    tests = [e for k in chosen for e in [e for e in data.test if e.label == k][:TESTS]]
    return chosen, draw_shots(data.train, chosen, shots, seed), tests


def prototypes(features: torch.Tensor, labels: Sequence[int], text: torch.Tensor, asked: torch.Tensor) -> Any:
    rule = PrototypeClassifier(features, torch.tensor(labels)).rule(text, range(len(text)))
    return rule.scores(asked).argmax(dim=1).numpy()


def crossed(
    features: torch.Tensor, labels: Sequence[int], text: torch.Tensor, folds: Any
) -> tuple[Right, int]:
    """Return which images of the folds are right, and the training images per fold model."""
    right, kept = [], []
    for fold in folds:
        rest = sorted({*range(len(labels))} - {*fold})
        found = prototypes(features[rest], [labels[i] for i in rest], text, features[fold])
        right.append(found == np.array([labels[i] for i in fold]))
        kept.append(len(rest))
    return np.concatenate(right), kept[0]


def five(
    features: torch.Tensor, labels: Sequence[int], text: torch.Tensor, photos: Any, seed: int
) -> list[Right]:
    scores = cross_fit_scores(features, labels, photos, text, seed)
    return [each.argmax(axis=1) == np.array(labels) for each in scores]


def texts(backbone: Backbone, names: Sequence[str], templates: Any) -> torch.Tensor:
    prompts = [tuple(class_prompts(name, templates)) for name in names]
    return build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts).cpu()


def record(
    kind: str, name: str, seed: int, shots: int, right: Right, kept: int, truth: float, **more: Any
) -> Any:
    interval = accuracy_interval(right, images_per_fold_model=kept)
    folds = [interval.value, interval.low, interval.high]
    return {"kind": kind, "set": name, "seed": seed, "shots": shots, "truth": truth, "folds": folds, **more}


def preview(data: DataSet, name: str, shots: int, seed: int, features: Features) -> Any:
    config = resolve_config(image_size=SIZE)
    chosen, train, tests = drawn(data, 5, shots, seed)
    text = texts(features.backbone, [data.class_names[k] for k in chosen], config.templates)
    labels, f = [chosen.index(e.label) for e in train], features([e.path for e in train])
    photos = photos_of(f.float().numpy(), np.asarray(labels))
    folds = make_folds(labels, seed, photos.tolist())
    right, kept = crossed(f, labels, text, folds)
    fifths = five(f, labels, text, photos, seed)
    answers = prototypes(f, labels, text, features([e.path for e in tests]))
    truth = float((answers == np.array([chosen.index(e.label) for e in tests])).mean())
    interval = accuracy_interval(fifths[0], images_per_fold_model=round(0.8 * len(labels)))
    return record(
        "preview", name, seed, shots, right, kept, truth,
        e2=int((~right).sum()), e5=float(np.mean([(~each).sum() for each in fifths])), images=len(right),
        five=[interval.value, interval.low, interval.high],
    )  # fmt: skip


def trained(data: DataSet, name: str, seed: int, features: Features) -> Any:
    started, shots = time.monotonic(), 6
    backbone = features.backbone
    chosen, train, tests = drawn(data, 4, shots, seed)
    names = [data.class_names[k] for k in chosen]
    config = resolve_config(image_size=SIZE, seed=seed, images=len(train))
    adapted = adapt(backbone, [Image(e.path, data.class_names[e.label]) for e in train], config)
    held = adapted.evaluation.held_out
    assert held is not None
    order = list(adapted.class_names)
    labels = [order.index(data.class_names[e.label]) for e in train]
    f, text = features([e.path for e in train]), texts(backbone, order, config.templates)
    photos = photos_of(f.float().numpy(), np.asarray(labels))
    right, kept = crossed(f, labels, text, make_folds(labels, config.seed, photos.tolist()))
    fifths = five(f, labels, text, photos, config.seed)
    network = with_parameters(backbone, adapted.weights.theta(tower_parameters(backbone.model), config.alpha))
    images = [Image(e.path, "") for e in tests]
    of_tests = torch.cat([image_features(network, p).cpu() for p in batches(backbone, images)])
    prompts = tuple(tuple(class_prompts(each, config.templates)) for each in order)
    classifier = build_zero_shot_classifier(network, backbone.tokenize, prompts).cpu()
    scores = balanced_scores(
        of_tests, classifier, adapted.weights.shots, config.alpha,
        Candidates(tuple(order), len(order), prompts), backbone.logit_scale,
    ).trained_only  # fmt: skip
    truth = float((scores.argmax(axis=1) == [order.index(data.class_names[e.label]) for e in tests]).mean())
    return record(
        "trained", name, seed, shots,
        held.adapted.trained_only.argmax(axis=1) == held.truth, held.images_per_fold_model or 1, truth,
        e2=int((~right).sum()), e5=float(np.mean([(~each).sum() for each in fifths])), images=len(right),
        seconds=time.monotonic() - started, names=names,
    )  # fmt: skip


def run(folders: Sequence[Path], out: Path, draws: int) -> None:
    features = Features(load_backbone("starter", cache=get_settings().cache, image_size=SIZE))
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(r["kind"], r["set"], r["shots"], r["seed"]) for r in lines}
    loaded = cache(read_folders)

    def add(made: Any) -> None:
        with out.open("a") as file:
            file.write(json.dumps(made) + "\n")

    for folder in folders:
        for seed in range(DRAWS):
            for shots in SHOTS:
                if ("preview", folder.name, shots, seed) not in done:
                    add(preview(loaded(folder), folder.name, shots, seed, features))
    for seed in range(draws):
        for folder in folders:
            if ("trained", folder.name, 6, seed) not in done:
                add(trained(loaded(folder), folder.name, seed, features))


def stored() -> list[Any]:
    store = RunStore(STORED, "trust-starter-160px")
    found = []
    for key in store.names():
        if key.endswith("/real"):
            kept = Record.load(store, key)
            assert kept is not None
            one = judged(kept)
            a = one["trained_classes"]["adapted"]
            folds = [a["value"], a["low"], a["high"]]
            found.append({"kind": "stored", "set": one["data"], "folds": folds, "truth": one["true"]})
    return found


def table(out: Path) -> None:
    rows = [*map(json.loads, out.read_text().splitlines()), *stored()]

    def ratio(of: Sequence[Any]) -> float:
        return sum(1 - r["truth"] for r in of) / sum(1 - r["folds"][0] for r in of)

    def less(estimate: Sequence[float], factor: float) -> list[float]:
        return [1 - factor * (1 - x) for x in estimate]

    for row in rows:
        kind = "stored" if row["kind"] == "stored" else "preview"
        others = [r for r in rows if r["kind"] == kind and r["set"] != row["set"]]
        row["constant"] = less(row["folds"], min(1.0, ratio(others)))
        if "e2" in row:
            row["curve"] = less(row["folds"], min(1.0, max(0.5, (row["e5"] + 1) / (row["e2"] + 1))))
    for kind in ("preview", "trained", "stored"):
        own = [r for r in rows if r["kind"] == kind]
        sets = sorted({r["set"] for r in own})
        print(
            f"\n{kind}: {len(own)} jobs, mean truth {np.mean([r['truth'] for r in own]):.3f}" if own else ""
        )
        for name in ("folds", "curve", "constant", "five"):
            if not own or name not in own[0]:
                continue
            errors = {s: np.mean([abs(r[name][0] - r["truth"]) for r in own if r["set"] == s]) for s in sets}
            bias = np.mean([r[name][0] - r["truth"] for r in own])
            covered = np.mean([r[name][1] <= r["truth"] <= r[name][2] for r in own])
            high = np.mean([r[name][0] > r["truth"] + 0.1 for r in own])
            print(
                f"{name:9} |error| {np.mean([*errors.values()]):.4f}  bias {bias:+.4f}  coverage {covered:.3f}"
                f"  too high {high:.3f}  " + " ".join(f"{s} {e:.3f}" for s, e in errors.items())
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=2)
    options = parser.parse_args()
    if options.what == "run":
        run(options.sets, options.out, options.draws)
    else:
        table(options.out)


if __name__ == "__main__":
    main()
