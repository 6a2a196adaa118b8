"""Observers of a training: a reporter that records everything, and hooks on a backbone."""

import copy
import hashlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from core.clip.models.backbone import Backbone
from core.clip.training.progress import Reporter, StepProgress


class Recorder(Reporter):
    """Reporter that records all progress and cancels after `cancel_after` steps.

    `cancel_evaluation` cancels after the first finished share of the evaluation.
    """

    def __init__(self, cancel_after: int | None = None, *, cancel_evaluation: bool = False) -> None:
        self.cancel_after = cancel_after
        self.cancel_evaluation = cancel_evaluation
        self.shares: list[float] = []
        """Finished shares of fold models or test images."""
        self.steps: list[StepProgress] = []
        self.phases: list[str] = []
        self.warnings: list[tuple[str, str]] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def step(self, progress: StepProgress) -> None:
        self.steps.append(progress)

    def advance(self, share: float) -> None:
        self.shares.append(share)

    def warn(self, code: str, detail: str) -> None:
        self.warnings.append((code, detail))

    def cancelled(self) -> bool:
        if self.cancel_evaluation and self.shares:
            return True
        return self.cancel_after is not None and len(self.steps) >= self.cancel_after


@dataclass
class Pass:
    """One pass through a watched module."""

    module: nn.Module
    given: Tensor
    with_gradients: bool
    in_train_mode: bool


@dataclass
class Watched:
    """Copy of a backbone whose copies, such as the model in training, report their passes through copied
    hooks.
    """

    backbone: Backbone
    passes: dict[str, list[Pass]] = field(default_factory=dict)

    def of_student(self, module: str) -> list[Pass]:
        """Return the passes with gradients; the teacher's have none."""
        return [p for p in self.passes[module] if p.with_gradients]


def watch(backbone: Backbone, *modules: str) -> Watched:
    model = copy.deepcopy(backbone.model)
    watched = Watched(replace(backbone, model=model), {name: [] for name in modules})
    for name in modules:

        def hook(module: nn.Module, given: tuple[Tensor, ...], _output: object, name: str = name) -> None:
            in_train_mode = any(part.training for part in module.modules())
            watched.passes[name].append(
                Pass(module, given[0].detach().clone(), torch.is_grad_enabled(), in_train_mode)
            )

        model.get_submodule(name).register_forward_hook(hook)
    return watched


def fingerprint(model: nn.Module) -> str:
    """Hash the names, bytes, modes and gradients of everything in a model."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.requires_grad} {parameter.grad}".encode())
    digest.update(str([module.training for module in model.modules()]).encode())
    return digest.hexdigest()


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return True if both are equal to the last bit. torch.equal treats -0.0 as 0.0."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].detach().numpy().tobytes() == other[name].detach().numpy().tobytes()
        for name in one
    )
