"""CLIP-CITE as the product runs it.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmarks.methods.answerers import TwoTowers
from benchmarks.methods.task import Answerer, Task
from core.clip.backbone import tower_parameters, with_parameters
from core.clip.config import AdaptConfig, resolve_config
from core.clip.ensemble import interpolate
from core.clip.progress import Silent
from core.clip.trainer import fine_tune


def clip_cite(task: Task) -> dict[str, Answerer]:
    """With the backbone's recipe: "CLIP-CITE" is the ensemble at its α, "CLIP-CITE, α = 1" the
    fine-tuned network itself. Calls `task.watch` with the ensemble after every epoch."""
    config = config_of(task)

    def after_epoch(epoch: int, theta: Mapping[str, Tensor]) -> None:
        if task.watch is not None:
            task.watch(epoch, config.epochs, ensemble(task, theta, config.alpha))

    theta_1 = fine_tune(
        task.backbone,
        task.tensors,
        task.labels,
        task.texts(task.class_names),
        config,
        Silent(),
        after_epoch=after_epoch,
    ).theta_1
    return {
        "CLIP-CITE": ensemble(task, theta_1, config.alpha),
        "CLIP-CITE, α = 1": ensemble(task, theta_1, 1.0),
    }


def ensemble(task: Task, theta_1: Mapping[str, Tensor], alpha: float) -> TwoTowers:
    theta = interpolate(tower_parameters(task.backbone.model), theta_1, alpha)
    return TwoTowers(task, with_parameters(task.backbone, theta))


def config_of(task: Task, **given: Any) -> AdaptConfig:
    """The recipe of the task's backbone, with what the task and an ablation say."""
    known = {"backbone": task.backbone.name, "templates": tuple(task.templates), "seed": task.seed}
    return resolve_config(**{**known, **given})
