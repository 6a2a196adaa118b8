"""Plan: below which measured accuracy are label issues noise?

    python -m benchmarks.plans.label_issues run SETS --out runs.jsonl     # resumes
    python -m benchmarks.plans.label_issues table --out runs.jsonl

Question: a job with 41% accuracy listed 15 label issues of 80 images, and none of ten was wrong. Below which
accuracy is the list not shown?

Sets: ten folders with `train/`: clothing, cifar10, trashnet; stamps, clipart, symbols, living, things and
digits of `benchmarks.data.prepare`; parts, the sample of the product. Each is used as it is (`plain`) and as a
harder variant (`hard`): images reduced to 20 pixels, and the class names replaced by codes (type 1, type 2 …),
which tell the text tower nothing.

Jobs: 8 classes (all, if a set has fewer) with 8 images each (6 of stamps and parts), starter at 112 pixels, one
draw. 0, 2, 5 and 10% of the images get the label of another class, both at random (at least one image unless
0%). The votes are the product's: previews and fold models. No model is trained on all images, since label issues
don't use it.
Also, without training, jobs of 4 images per class, which have no fold models: both votes are previews, 5 draws.

Measured: the label issues of `find_label_issues`; precision and recall of the planted labels. Images that a set
itself labels wrongly count as false issues. The accuracy is the share of the given labels that the second vote
predicts: with fold models, the accuracy that the report measures by cross-validation; without, the accuracy of
the previews.

Rule, fixed before the run: jobs are pooled over the four rates and grouped by accuracy: below .5, .5 to .6, …,
.9 to 1. The limit A is the lowest of .5, .6, .7, .8, .9 above which each group has a precision of at least .5;
groups of fewer than 10 issues join the next higher one. It is decided on the jobs with fold models.
Adopted if
1. there is such an A;
2. the jobs at A or above have a recall of at least .6, and hold at least half of all planted labels that the
   finder found;
3. on the jobs without fold models, the precision at A or above is at least .5; otherwise they get their own A by
   the same rule, or none of their issues is shown.
If there is no A, the second candidate is judged by the same rule: an issue also needs a mean probability of the
suggested class of at least .9.
"""

import argparse
import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.data.dataset import Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.folders import read_folders
from core.clip.config import resolve_config
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.data.splits import make_folds
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.cross_validation import cross_validate
from core.clip.evaluation.label_issues import cross_fit_scores, find_label_issues
from core.clip.inference.calibration import softmax
from core.clip.models.backbone import load_backbone
from core.clip.models.features import build_zero_shot_classifier, file_features
from core.clip.training.progress import Reporter
from core.settings import get_settings

SIZE, CLASSES, SHOTS, FEW, DRAWS = 112, 8, 8, 4, 5
RATES = (0.0, 0.02, 0.05, 0.1)
LIMITS = (0.5, 0.6, 0.7, 0.8, 0.9)


def reduced(path: Path) -> bytes:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((20, 20))
    content = io.BytesIO()
    image.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(content, "PNG")
    return content.getvalue()


def planted(labels: Sequence[int], rate: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the labels with wrong ones, and the positions of these."""
    generator = np.random.default_rng(seed)
    count = max(1, round(rate * len(labels))) if rate else 0
    at = generator.choice(len(labels), size=count, replace=False).tolist()
    changed = list(labels)
    for i in at:
        changed[i] = int(generator.choice([k for k in sorted(set(labels)) if k != labels[i]]))
    return changed, at


def job(backbone, config, names, sources, labels, stock, images, rate, seed, folds) -> dict:
    given, wrong = planted(labels, rate, 1000 * seed + int(1000 * rate))
    trained = TrainingSet(
        tuple(names), [given.count(k) for k in range(len(names))], sources, list(range(len(sources))), images,
        given, stock,
    )  # fmt: skip
    context = EvalContext(backbone, trained, config, ImageLimits())
    candidates = context.candidates(names)
    text = build_zero_shot_classifier(backbone.model, backbone.tokenize, candidates.prompts).cpu()
    scale = backbone.logit_scale
    previews = cross_fit_scores(stock, given, trained.photos, text, config.seed)
    one, other = (softmax(scale * scores) for scores in previews)
    positions = np.arange(len(given))
    if folds:
        parts = make_folds(given, config.seed, trained.photos.tolist())
        held_out = cross_validate(context, parts, candidates, Reporter())
        order = np.argsort(held_out.positions)
        positions = held_out.positions[order]
        one = softmax(scale * np.mean(previews, axis=0))[positions]
        other = softmax(scale * held_out.adapted.trained_only[order])
    judged = np.asarray(given)[positions]
    issues = find_label_issues((one, other), judged, positions)
    return {
        "folds": folds,
        "rate": rate,
        "seed": seed,
        "images": len(positions),
        "classes": len(names),
        "accuracy": float((other.argmax(axis=1) == judged).mean()),
        "preview_accuracy": float((one.argmax(axis=1) == judged).mean()),
        "planted": len(wrong),
        "issues": [[i.position, i.probability, i.label_probability, i.position in wrong] for i in issues],
    }


def run(folders: Sequence[Path], out: Path) -> None:
    backbone = load_backbone("starter", cache=get_settings().cache, image_size=SIZE)
    stored = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(r["set"], r["variant"], r["folds"], r["rate"], r["seed"]) for r in stored}
    for folder in folders:
        data = read_folders(folder)
        order = np.random.default_rng(0).permutation(len({e.label for e in data.train}))[:CLASSES].tolist()
        of = sorted({e.label for e in data.train})
        chosen = sorted(of[i] for i in order)
        for variant in ("plain", "hard"):
            for folds, seeds in ((True, 1), (False, DRAWS)):
                for seed in range(seeds):
                    jobs = [(rate, seed) for rate in RATES]
                    todo = [r for r, s in jobs if (folder.name, variant, folds, r, s) not in done]
                    if not todo:
                        continue
                    shots: list[Example] = draw_shots(data.train, chosen, SHOTS if folds else FEW, seed)
                    labels = [chosen.index(e.label) for e in shots]
                    names = [data.class_names[k] for k in chosen]
                    sources: list = [e.path for e in shots]
                    if variant == "hard":
                        names, sources = (
                            [f"type {k + 1}" for k in range(len(names))],
                            list(map(reduced, sources)),
                        )
                    config = resolve_config(image_size=SIZE, seed=seed, images=len(shots))
                    stock = file_features(backbone, sources)
                    side = math.ceil(SIZE / math.sqrt(config.crop_scale))
                    images = (
                        read_images(sources, ImageLimits(), side) if folds else [torch.zeros(0)] * len(shots)
                    )
                    for rate in todo:
                        started = time.monotonic()
                        record = job(
                            backbone, config, names, sources, labels, stock, images, rate, seed, folds
                        )
                        record |= {"set": folder.name, "variant": variant}
                        record["seconds"] = time.monotonic() - started
                        with out.open("a") as file:
                            file.write(json.dumps(record) + "\n")


def table(out: Path) -> None:
    stored = [json.loads(line) for line in out.read_text().splitlines()]
    for folds in (True, False):
        for least in (0.0, 0.9):
            of = [r for r in stored if r["folds"] == folds]
            print(
                f"\n{'fold models' if folds else 'previews'}, suggested class at least {least}: {len(of)} jobs"
            )
            total = found_all = 0
            for low, high in [*zip((0.0, *LIMITS), (*LIMITS, 1.1))]:
                show(
                    f"{low:.1f} to {min(high, 1):.1f}", [r for r in of if low <= r["accuracy"] < high], least
                )
            for low in (0.0, *LIMITS):
                show(f"from {low:.1f}", [r for r in of if low <= r["accuracy"]], least)
            if least == 0:
                for rate in RATES:
                    for low in (0.0, *LIMITS):
                        of_rate = [r for r in of if r["rate"] == rate and low <= r["accuracy"]]
                        show(f"rate {rate}, from {low:.1f}", of_rate, least)
                for name in sorted({r["set"] for r in of}):
                    for variant in ("plain", "hard"):
                        show(
                            f"{name} {variant}",
                            [r for r in of if (r["set"], r["variant"]) == (name, variant)],
                            0,
                        )


def show(what: str, runs: Sequence[dict], least: float) -> None:
    if not runs:
        return
    issues = [i for r in runs for i in r["issues"] if i[1] >= least]
    hits, wrong = sum(i[3] for i in issues), sum(r["planted"] for r in runs)
    images = sum(r["images"] for r in runs)
    print(
        f"{what:24} jobs {len(runs):3} accuracy {np.mean([r['accuracy'] for r in runs]):.2f} images {images:5} "
        f"planted {wrong:4} issues {len(issues):4} ({100 * len(issues) / images:4.1f} per 100) hits {hits:4} "
        f"precision {hits / len(issues) if issues else math.nan:.2f} recall {hits / wrong if wrong else math.nan:.2f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["run", "table"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(options.folders, options.out) if options.step == "run" else table(options.out)
