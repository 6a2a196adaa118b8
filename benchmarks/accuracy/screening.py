"""Experiments of benchmarks/plans/averages-anchors-templates.md: changes to CLIP-CITE, screened together.

    python -m benchmarks.accuracy.screening --data clothing cifar10 stamps --tests 60
    python -m benchmarks.accuracy.screening --data clothing cifar10 stamps --tests 60 --first-split 30
        --splits 10 --methods product ARM

The second command confirms an arm on splits that the first one did not use. Storage and resuming are those of
benchmarks.accuracy.paper. Every arm is compared with the product, trained on the same shots, and scores by
the product's rules of requests.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from open_clip import IMAGENET_CLASSNAMES
from rich.console import Console
from torch import Tensor, nn

from benchmarks.accuracy.ablations import TEMPLATES, is_text
from benchmarks.accuracy.harness import Trial, run
from benchmarks.accuracy.measures import MEASURES
from benchmarks.accuracy.paper import load_for, parser, read_trials, write
from benchmarks.accuracy.tables import SERVED, Runs, Table, collect, compared, figure, signed
from benchmarks.methods.clip_cite import Balanced, Served, config_of, ensemble, train
from benchmarks.methods.common.answerers import TwoTowers, stock_head
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Method, Predictor, Task
from benchmarks.methods.preview import preview
from benchmarks.methods.prolip import RECIPES, prolip
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.models.backbone import tower_parameters
from core.clip.models.features import encode_tokens
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import class_prompts
from core.clip.training.losses import similarity_distillation
from core.clip.weights.delta import full_delta

PREVIEW = "Preview"
NEUTRAL = (
    "a good photo of a {}.",
    "a close-up photo of the {}.",
    "a photo of my {}.",
    "a cropped photo of a {}.",
    "a bright photo of the {}.",
    "a clean photo of a {}.",
    "a photo of this {}.",
)
IN_TRAINING = tuple(
    f"{start} {rest}"
    for start in ("a photo", "an image", "a photograph", "a shot", "a view")
    for rest in ("of a {}.", "of the {}.", "of one {}.", "of a single {}.", "showing a {}.", "with a {}.")
)
LATE_EPOCHS = 3
ANCHORS, ANCHORS_PER_STEP = 200, 8


def served(task: Task, theta_1: Mapping[str, Tensor], alpha: float = 0.5) -> Predictor:
    """Return the ensemble with the product's rule for each request."""
    network = ensemble(task, theta_1, alpha)
    return Served(Balanced(task, network, full_delta(dict(theta_1)), alpha, NEW_CLASS_BALANCE))


def one_training(task: Task) -> dict[str, Predictor]:
    """Return the product, the averages, and the templates that are used at inference only."""
    theta_0 = tower_parameters(task.backbone.model)
    epochs = config_of(task).epochs
    after: list[dict[str, Tensor]] = [{name: tensor.detach().clone() for name, tensor in theta_0.items()}]

    def keep(_epoch: int, theta: Mapping[str, Tensor]) -> None:
        after.append({name: tensor.detach().clone() for name, tensor in theta.items()})

    theta_1 = train(task, config_of(task), after_epoch=keep).theta_1
    beta = mean_of(after, [beta_density((t + 0.5) / (epochs + 1)) for t in range(epochs + 1)])
    return {
        SERVED: served(task, theta_1),
        "Beta mean, α = 0.5": served(task, beta),
        "Beta mean, α = 1": served(task, beta, 1.0),
        "late mean": served(task, mean_of(after[-LATE_EPOCHS:], [1.0] * LATE_EPOCHS)),
        "α 0.3 to 0.7 by depth": served(task, by_depth(theta_0, theta_1, 0.3, 0.7)),
        "α 0.7 to 0.3 by depth": served(task, by_depth(theta_0, theta_1, 0.7, 0.3)),
        "CLIP's 7 templates at inference": served(replace(task, templates=TEMPLATES), theta_1),
        "7 neutral templates at inference": served(replace(task, templates=NEUTRAL), theta_1),
    }


def beta_density(x: float) -> float:
    """Return the density of Beta(½, ½) at x in (0, 1)."""
    return 1 / (math.pi * math.sqrt(x * (1 - x)))


def mean_of(thetas: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    total = sum(weights)
    return {
        name: sum(
            (w / total * theta[name] for w, theta in zip(weights, thetas, strict=True)),
            torch.zeros_like(first),
        )
        for name, first in thetas[0].items()
    }


def by_depth(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], first: float, last: float
) -> dict[str, Tensor]:
    """Return the θ whose ensemble at α = ½ has `first` as α in the first layer of each tower, and `last`
    in the last. Layers are numbered by the order of the parameters."""
    towers = [[name for name in theta_1 if is_text(name) == text] for text in (False, True)]
    return {
        name: torch.lerp(theta_0[name], theta_1[name], 2 * (first + (last - first) * i / (len(names) - 1)))
        for names in towers
        for i, name in enumerate(names)
    }


def many_templates(task: Task) -> dict[str, Predictor]:
    """Draw one of 30 templates per class and step in training; use seven others at inference."""
    theta_1 = train(replace(task, templates=IN_TRAINING), config_of(task)).theta_1
    return {
        "30 templates in training, 7 neutral at inference": served(replace(task, templates=NEUTRAL), theta_1)
    }


def prolip_preview(views: int, task: Task) -> dict[str, Predictor]:
    """Train ProLIP on few crops, and score by the product's rules."""
    (trained,) = prolip(task, replace(recipe(RECIPES, task.backbone), views=views)).values()
    assert isinstance(trained, TwoTowers)
    delta = full_delta(tower_parameters(trained.model))
    balanced = Balanced(task, trained, delta, 1.0, NEW_CLASS_BALANCE)
    return {f"ProLIP, {views} crop{'s' * (views > 1)}": Served(balanced)}


def anchored(
    label: str, names: Callable[[Task, Sequence[str]], Tensor], hold: float, distil: float
) -> Callable[[Trial], Method]:
    """Return CLIP-CITE with anchor texts.

    Args:
        names: returns the tokens [ANCHORS, L] for a task and the class names of its data set.
        hold: weight of the mean of 1 − cosine between the anchors' features and those of θ_0.
        distil: η of L_VLD over the texts of the batch and the anchors; 0 means the ordinary L_VLD.
    """

    def method(class_names: Sequence[str], task: Task) -> dict[str, Predictor]:
        tokens = names(task, class_names)
        with torch.no_grad():
            before = encode_tokens(task.backbone.model, tokens)
        generator = torch.Generator().manual_seed(task.seed)
        scale = task.backbone.logit_scale

        def loss(student: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
            drawn = torch.randperm(len(tokens), generator=generator)[:ANCHORS_PER_STEP]
            now = encode_tokens(student, tokens[drawn])
            total = hold * (1 - (now * before[drawn]).sum(dim=1)).mean()
            if distil:
                total = total + distil * similarity_distillation(
                    features["image"],
                    torch.cat([features["text"], now]),
                    features["teacher_image"],
                    torch.cat([features["teacher_text"], before[drawn]]),
                    scale,
                )
            return total

        settings: dict[str, Any] = {"vld_weight": 0.0} if distil else {}
        theta_1 = train(task, config_of(task, **settings), regularisation=loss).theta_1
        return {label: served(task, theta_1)}

    return lambda trial: partial(method, trial.data.class_names)


def anchor_names(task: Task, class_names: Sequence[str]) -> list[str]:
    """Return the ImageNet names that may be anchors, the nearest to the trained classes first."""
    measured = set(distractor_classes(task.class_names))
    unrelated = distractor_classes(class_names, len(IMAGENET_CLASSNAMES))
    names = [name for name in unrelated if name not in measured]
    similarity = (stock_head(task, names) @ stock_head(task, task.class_names).T).amax(dim=1)
    return [names[i] for i in similarity.argsort(descending=True).tolist()]


def tokens_of(task: Task, names: Sequence[str]) -> Tensor:
    return task.backbone.tokenize([class_prompts(name, task.templates)[0] for name in names])


def nearest(task: Task, class_names: Sequence[str]) -> Tensor:
    return tokens_of(task, anchor_names(task, class_names)[:ANCHORS])


def farthest(task: Task, class_names: Sequence[str]) -> Tensor:
    return tokens_of(task, anchor_names(task, class_names)[-ANCHORS:])


def drawn_names(task: Task, class_names: Sequence[str]) -> Tensor:
    return tokens_of(task, random.Random(task.seed).sample(anchor_names(task, class_names), ANCHORS))


def random_tokens(task: Task, class_names: Sequence[str]) -> Tensor:
    """Return anchors whose tokens between start and end are random."""
    tokens = drawn_names(task, class_names)
    start, end = int(tokens[0, 0]), int(tokens.max())
    words = (tokens != 0) & (tokens != start) & (tokens != end)
    generator = torch.Generator().manual_seed(task.seed)
    return torch.where(words, torch.randint(1, start, tokens.shape, generator=generator), tokens)


KINDS = {"hold": (1.0, 0.0), "distil": (0.0, 1.0), "both": (1.0, 1.0)}
CONTROLS = {"random": drawn_names, "farthest": farthest, "tokens": random_tokens}
ANCHOR_ARMS = {
    re.sub(r"\W+", "_", label): anchored(label, names, weight * hold, weight * distil)
    for kind, (hold, distil) in KINDS.items()
    for weight in (0.1, 1.0)
    for name, names in {"nearest": nearest, **CONTROLS}.items()
    for label in [f"anchors {name}, {kind} {weight:g}"]
}
ARMS: Mapping[str, Callable[[Trial], Method]] = {
    "product": lambda trial: one_training,
    "templates": lambda trial: many_templates,
    "preview": lambda trial: preview,
    "prolip1": lambda trial: partial(prolip_preview, 1),
    "prolip2": lambda trial: partial(prolip_preview, 2),
    **ANCHOR_ARMS,
}
SCREENED = [name for name in ARMS if not any(control in name for control in CONTROLS)]
"""Everything but the controls, which are for the best of the anchors."""


def screening_table(title: str, rows: Sequence[Runs]) -> Table:
    """Return the measures of every arm, and its differences from the product or from the preview."""
    table = Table(
        title,
        ["arm", *MEASURES, "seconds"],
        note="Differences are from the product, or for ProLIP from the preview, with 95% intervals over "
        "splits and images. Seconds are those of the training, as the median.",
    )
    by_label = {runs.label: runs for runs in rows}
    for runs in rows:
        base = by_label.get(PREVIEW if runs.label.startswith("ProLIP") else SERVED)
        values = runs.means()["mean"]
        cells = [figure(values[m]) for m in MEASURES]
        if base is not None and runs.label not in (SERVED, PREVIEW):
            differences = compared(runs, base)["mean"]
            cells = [
                f"{cell}<br>{signed(differences[m])}" if m in differences else cell
                for cell, m in zip(cells, MEASURES, strict=True)
            ]
        seconds = sorted(runs.seconds)[len(runs.seconds) // 2]
        table.rows.append([runs.label, *cells, f"{seconds:.1f}"])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, ARMS)
    command_line.set_defaults(splits=3, first_split=0, methods=SCREENED)
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    trials = read_trials(options)
    methods = list(ARMS) if options.methods == ["all"] else options.methods
    for name in methods:
        for trial in trials:
            run(f"screening-{name}", ARMS[name](trial), trial, backbone, options.out)
    rows = collect([f"screening-{name}" for name in methods], trials, backbone, options.out)
    splits = f"splits {options.first_split} to {options.first_split + options.splits - 1}"
    table = screening_table(f"Changes to the method, {splits}: mean over the data sets", rows)
    write([table], f"screening-{options.backbone.replace('/', '-')}", options.out, Console(width=200))


if __name__ == "__main__":
    main()
