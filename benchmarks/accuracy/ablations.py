"""Ablations: the effect of each part of the method.

    python -m benchmarks.accuracy.ablations --data clothing cifar10 stamps --splits 3 --seeds 1

Each row is CLIP-CITE with the backbone's recipe and one change, at α = 0.5 by default. Options, storage and
resuming are those of benchmarks.accuracy.paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.harness import Trial, run
from benchmarks.accuracy.measures import MEASURES
from benchmarks.accuracy.paper import load_for, parser, read_trials, write
from benchmarks.accuracy.tables import Table, collect, compared, signed
from benchmarks.methods import clip_cite
from benchmarks.methods.clip_cite import config_of, ensemble
from benchmarks.methods.common.task import Method, Predictor, Task
from benchmarks.methods.stock import stock
from core.clip.models.backbone import Backbone
from core.clip.training.trainer import FineTuned, Recipe

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TEMPLATES = (  # CLIP's own seven for small ensembles
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def train(task: Task, recipe: Recipe | None = None, **settings: Any) -> FineTuned:
    return clip_cite.train(task, config_of(task, **settings), recipe)


def changed(label: str, recipe: Recipe | None = None, **settings: Any) -> Method:
    """Return CLIP-CITE with other settings or other parts of the training loop."""

    def method(task: Task) -> dict[str, Predictor]:
        return {label: ensemble(task, train(task, recipe, **settings).theta_1, 0.5)}

    return method


def one_training(task: Task) -> dict[str, Predictor]:
    """Return the α curve of one training."""
    trained = train(task)
    return {f"α = {a}": ensemble(task, trained.theta_1, a) for a in ALPHAS}


def templates(task: Task) -> dict[str, Predictor]:
    """Use seven prompts per class: in training and at inference, or at inference only."""
    with_seven = replace(task, templates=TEMPLATES)
    trained_with_seven = train(with_seven).theta_1
    trained_with_one = train(task).theta_1
    return {
        "7 templates": ensemble(with_seven, trained_with_seven, 0.5),
        "7 templates, at inference only": ensemble(with_seven, trained_with_one, 0.5),
    }


def unequal(task: Task) -> dict[str, Predictor]:
    """Train on very unequal classes, with and without repeating the images of small ones.

    Each class has half as many images as the one before it, and at least one.
    """
    of_class = [
        [i for i, label in enumerate(task.labels) if label == c] for c in range(len(task.class_names))
    ]
    kept = [indices[: max(1, len(indices) >> c)] for c, indices in enumerate(of_class)]
    largest = max(len(indices) for indices in kept)
    repeated = [(indices * largest)[:largest] for indices in kept]
    answers: dict[str, Predictor] = {}
    for label, chosen in (("unequal classes", kept), ("unequal, small ones repeated", repeated)):
        indices = [i for of_class in chosen for i in of_class]
        few = replace(
            task, tensors=[task.tensors[i] for i in indices], labels=[task.labels[i] for i in indices]
        )
        answers[label] = ensemble(task, train(few).theta_1, 0.5)
    return answers


def other_direction(
    image_features: Tensor,
    text_features: Tensor,
    teacher_image_features: Tensor,
    teacher_text_features: Tensor,
    logit_scale: float,
) -> Tensor:
    """Return KL(p̂ || p), the usual direction of distillation; eq. 5 has KL(p || p̂)."""
    log_p = F.log_softmax(logit_scale * image_features @ text_features.T, dim=-1)
    log_p_hat = F.log_softmax(logit_scale * teacher_image_features @ teacher_text_features.T, dim=-1)
    return F.kl_div(log_p, log_p_hat.detach(), log_target=True, reduction="batchmean")


def only_dva(dva: Tensor, scl: Tensor, vld: Tensor, scl_weight: float, vld_weight: float) -> Tensor:
    return dva


def only_scl(dva: Tensor, scl: Tensor, vld: Tensor, scl_weight: float, vld_weight: float) -> Tensor:
    return scl


def is_text(name: str) -> bool:
    return not name.startswith("visual.")


ABLATIONS: Mapping[str, Method] = {
    "stock": stock,
    "one_training": one_training,
    "only_dva": changed("L_DVA", Recipe(objective=only_dva)),
    "only_scl": changed("L_SCL", Recipe(objective=only_scl)),
    "dva_scl": changed("L_DVA + λ L_SCL", vld_weight=0.0),
    "dva_vld": changed("L_DVA + η L_VLD", scl_weight=0.0),
    "dva_vld_frozen_text": changed(
        "L_DVA + η L_VLD, text tower fixed", Recipe(frozen=is_text), scl_weight=0.0
    ),
    "frozen_classifier": changed("FrozenTC: W fixed", classifier_learning_rate=0.0),
    "frozen_text": changed("FrozenTE: text tower fixed", Recipe(frozen=is_text)),
    "slow_text": changed("text tower at 0.3 of the learning rate", text_learning_rate=3e-5),
    "kl": changed("KL(p̂ ‖ p)", Recipe(distillation=other_direction)),
    "scl_low": changed("λ = 0.35", scl_weight=0.35),
    "scl_high": changed("λ = 1.4", scl_weight=1.4),
    "vld_high": changed("η = 0.5", vld_weight=0.5),
    "w_slow": changed("W at 1x the learning rate", classifier_learning_rate=1e-4),
    "w_fast": changed("W at 30x", classifier_learning_rate=3e-3),
    "short": changed("half the epochs", epochs=5),
    "long": changed("twice the epochs", epochs=20),
    "templates": templates,
    "unequal": unequal,
}


def table(methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path) -> Table:
    """Return all variants, with their difference to the product's recipe at α = 0.5 without class offsets."""
    runs = collect([f"ablation-{name}" for name in methods], trials, backbone, out)
    product = next(r for r in runs if r.label == "α = 0.5")
    found = Table("Ablations: one thing changed", ["variant", *MEASURES, "HM − α = 0.5", "all − α = 0.5"])
    for one in runs:
        values = one.means()["mean"]
        against = compared(one, product)["mean"]
        gains = ["", ""] if one is product else [signed(against[m]) for m in ("HM", "all")]
        label = f"**{one.label}, the paper's scores**" if one is product else one.label
        found.rows.append([label, *(f"{values[m]:.3f}" for m in MEASURES), *gains])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, ABLATIONS)
    command_line.set_defaults(splits=3, seeds=1, methods=["all"])
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    trials = read_trials(options)
    chosen = list(ABLATIONS) if options.methods == ["all"] else options.methods
    methods = list(dict.fromkeys(["one_training", *chosen]))  # with the row that the others are compared to
    for method in methods:
        for trial in trials:
            run(f"ablation-{method}", ABLATIONS[method], trial, backbone, options.out)
    ablations = table(methods, trials, backbone, options.out)
    write([ablations], f"ablations-{options.backbone.replace('/', '-')}", options.out, Console(width=160))


if __name__ == "__main__":
    main()
