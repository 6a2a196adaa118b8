"""Fewer steps for small jobs (few_steps.md).

    python -m benchmarks.plans.few_steps train --sets FOLDER --out RUNS
    python -m benchmarks.plans.few_steps score --out RUNS

FOLDER has the sets of `benchmarks.data.prepare`. A stored run is not repeated.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from clipcite.types.images import Image
from core.clip.config import AdaptConfig, resolve_config
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.request_rule import TEXT_COUNTS_AS, adapted_rule, trained_scores
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier, file_features
from core.clip.prompts import class_prompts
from core.clip.training.checkpoint import TrainingState
from core.clip.training.progress import Reporter
from core.clip.training.trainer import Recipe, fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.support_set import encode_support_set
from core.settings import get_settings

SETS = (
    "clothing",
    "cifar10",
    "trashnet",
    "digits",
    "signs",
    "stamps",
    "clipart",
    "symbols",
    "living",
    "things",
)
DRAWS, TRAINED, SHOTS, TESTS, ALPHA = (0, 1), 5, 5, 40, 0.5
FEW, AVERAGED = 12, 6


@dataclass(frozen=True)
class Arm:
    steps: int
    rate: float = 1.0
    warm: bool = False
    mean: bool = False
    crops: int = 1


ARMS = {
    "30": Arm(30),
    "10": Arm(10),
    "rate": Arm(FEW, 2),
    "warm": Arm(FEW, 2, warm=True),
    "mean": Arm(FEW, 2, mean=True),
    "crops": Arm(FEW, 2, crops=2),
}


class Mean:
    """In place of checkpoints: the mean of the weights after the last steps. An epoch is a step."""

    def __init__(self, steps: int) -> None:
        self.first, self.sum = steps - AVERAGED + 1, dict[str, Tensor]()

    def resume(self, *_: Any) -> int:
        return 0

    def after_epoch(self, epoch: int, state: TrainingState, reporter: Reporter) -> None:
        if epoch >= self.first:
            for name, parameter in state.parameters.items():
                self.sum[name] = self.sum.get(name, 0) + parameter.detach() / AVERAGED


def drawn(name: str, folder: Path, draw: int) -> dict[str, Any]:
    """Return the names, the trained ones first, and the files of shots and tests."""
    generator = np.random.default_rng(draw)
    names = sorted(path.name for path in (folder / "train").iterdir())
    names = [names[i] for i in generator.permutation(len(names))]
    shots, labels, tests, truth = [], [], [], []
    for i, each in enumerate(names):
        train, test = (sorted((folder / half / each).iterdir()) for half in ("train", "test"))
        if name == "stamps":
            pool = train + test
            pool = [pool[j] for j in generator.permutation(len(pool))]
            train, test = pool[: len(pool) // 2], pool[len(pool) // 2 :]
        else:
            train = [train[j] for j in generator.permutation(len(train))]
            test = [test[j] for j in generator.permutation(len(test))]
        if i < TRAINED:
            shots += train[:SHOTS]
            labels += [i] * len(train[:SHOTS])
        tests += test[:TESTS]
        truth += [i] * len(test[:TESTS])
    return {"names": names, "shots": shots, "labels": labels, "tests": tests, "truth": truth}


def trained(
    arm: Arm,
    backbone: Backbone,
    images: list[Tensor],
    stock: Tensor,
    labels: list[int],
    prompts: list[Any],
    config: AdaptConfig,
) -> dict[str, Tensor]:
    """Return θ_1 of an arm."""
    config = config.model_copy(
        update={
            "epochs": arm.steps,
            "batch_size": arm.crops * len(images),
            "learning_rate": arm.rate * config.learning_rate,
            "classifier_learning_rate": arm.rate * config.classifier_learning_rate,
        }
    )
    mean = Mean(arm.steps) if arm.mean else None
    recipe = Recipe(schedule=lambda step, steps: 1.0) if arm.mean else Recipe()
    texts = build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts)
    start = trained_scores(
        stock, torch.tensor(labels), texts, range(len(prompts)), 1.0, TEXT_COUNTS_AS, None
    )[0]
    with mock.patch(
        "core.clip.training.trainer.build_zero_shot_classifier",
        (lambda *_: start.clone()) if arm.warm else build_zero_shot_classifier,
    ):
        theta_1 = fine_tune(
            backbone,
            arm.crops * images,
            arm.crops * labels,
            prompts,
            config,
            Reporter(),
            recipe=recipe,
            checkpoints=mean,  # type: ignore[arg-type]
        )
    return {name: mean.sum[name] for name in theta_1} if mean else theta_1


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    config = resolve_config(backbone="starter")
    backbone = load_backbone(
        "starter", cache=get_settings().cache, image_size=config.image_size, device="cpu"
    )
    for draw in DRAWS:
        for name in options.only:
            out = options.out / f"{name}-{draw}.json"
            if out.exists():
                continue
            job = drawn(name, options.sets / name, draw)
            settings = config.model_copy(update={"seed": draw})
            prompts = [class_prompts(each, config.templates, config.prompts) for each in job["names"]]
            shots = [
                Image(path, job["names"][i]) for path, i in zip(job["shots"], job["labels"], strict=True)
            ]
            tests = [Image(path, job["names"][i]) for path, i in zip(job["tests"], job["truth"], strict=True)]
            side = math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
            images = read_images(shots, ImageLimits(), side)
            stock = file_features(backbone, shots)
            found = {}
            for arm_name, arm in ARMS.items():
                started = time.process_time()
                theta_1 = trained(arm, backbone, images, stock, job["labels"], prompts[:TRAINED], settings)
                seconds = time.process_time() - started
                theta_0 = tower_parameters(backbone.model)
                delta = encode(theta_0, theta_1, config.delta_format)
                support = encode_support_set(backbone, delta, images, job["labels"], up_to=ALPHA)
                network = with_parameters(backbone, delta.theta(theta_0, ALPHA))
                texts = build_zero_shot_classifier(network, backbone.tokenize, prompts)
                features = file_features(replace(backbone, model=network), tests)
                truth, shots_of = torch.tensor(job["truth"]), (support.at(ALPHA), support.labels)
                known = truth < TRAINED
                classes = [*range(TRAINED), *[NEW_CLASS] * (len(texts) - TRAINED)]
                closed = adapted_rule(shots_of, texts[:TRAINED], classes[:TRAINED], backbone.logit_scale)
                mixed = adapted_rule(shots_of, texts, classes, backbone.logit_scale)
                hits = mixed.scores(features).argmax(dim=1) == truth
                right = closed.scores(features[known]).argmax(dim=1) == truth[known]
                found[arm_name] = {
                    "closed": right.float().mean().item(),
                    "mixed": hits.float().mean().item(),
                    "new": hits[~known].float().mean().item(),
                    "seconds": seconds,
                }
            options.out.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found), encoding="utf-8")
            print(out.stem, {k: [round(x, 3) for x in v.values()] for k, v in found.items()}, flush=True)


def score(options: argparse.Namespace) -> None:
    sets: dict[str, list[dict[str, dict[str, float]]]] = defaultdict(list)
    for path in sorted(options.out.glob("*-[01].json")):
        sets[path.stem.rsplit("-", 1)[0]].append(json.loads(path.read_text(encoding="utf-8")))
    print(len(sets), "sets,", sum(map(len, sets.values())), "runs; accuracy, then less *30*: mean, worst set")
    for arm in ARMS:
        cells = [f"{arm:6}"]
        for kind in ("closed", "mixed", "new"):
            at = np.array([np.mean([run[arm][kind] for run in runs]) for runs in sets.values()])
            less = at - np.array([np.mean([run["30"][kind] for run in runs]) for runs in sets.values()])
            cells.append(
                f"{kind} {at.mean():.3f} {less.mean():+.3f} {less.min():+.3f} ({[*sets][int(less.argmin())]})"
            )
        ratios = [run[arm]["seconds"] / run["30"]["seconds"] for runs in sets.values() for run in runs]
        print(*cells, f"CPU seconds {np.median(ratios):.2f}", sep=" | ")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["train", "score"])
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=SETS)
    options = parser.parse_args(arguments)
    {"train": train, "score": score}[options.step](options)


if __name__ == "__main__":
    main()
