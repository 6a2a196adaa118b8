"""CLIP-CITE as the product runs it.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003.
"""

from typing import Any

from benchmarks.methods.answerers import TwoTowers
from benchmarks.methods.task import Answerer, Task
from core.clip.backbone import tower_parameters, with_parameters
from core.clip.config import AdaptConfig, resolve_config
from core.clip.ensemble import interpolate
from core.clip.progress import Silent
from core.clip.trainer import fine_tune


def clip_cite(task: Task) -> dict[str, Answerer]:
    """With the backbone's recipe: "CLIP-CITE" is the ensemble at its α, "CLIP-CITE, α = 1" the
    fine-tuned network itself."""
    config = config_of(task)
    theta_1 = fine_tune(
        task.backbone, task.tensors, task.labels, task.texts(task.class_names), config, Silent()
    ).theta_1
    theta_0 = tower_parameters(task.backbone.model)
    ensemble = interpolate(theta_0, theta_1, config.alpha)
    return {
        "CLIP-CITE": TwoTowers(task, with_parameters(task.backbone, ensemble)),
        "CLIP-CITE, α = 1": TwoTowers(task, with_parameters(task.backbone, theta_1)),
    }


def config_of(task: Task, **given: Any) -> AdaptConfig:
    """The recipe of the task's backbone, with what the task and an ablation say."""
    templates = tuple(task.templates)
    return resolve_config(
        **{"backbone": task.backbone.name, "templates": templates, "seed": task.seed, **given}
    )
