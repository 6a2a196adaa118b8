"""Seconds of a training step by kind of work, from torch.profiler."""

import copy
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.training.loops import Clock
from core.clip.training.progress import StepProgress

TEACHER, TEXT, OPTIMISER = "teacher", "text tower", "optimiser"
MATRIX, DEPTHWISE, NORMS = "convolution and matrix products", "depthwise convolution", "normalisation"
ELEMENTWISE, REST = "elementwise and copies", "Python and waiting"
MATRIX_OPERATORS = re.compile(r"conv|mm$|mm_|matmul|linear$|linear_|dot_product|attention")


def labelled(model: nn.Module) -> nn.Module:
    """Return a copy whose towers are labelled in a profile; copies of the copy are labelled too."""
    model = copy.deepcopy(model)

    def encode_image(self: Any, *arguments: Any, **options: Any) -> Any:
        with record_function("image tower" if torch.is_grad_enabled() else TEACHER):
            return type(self).encode_image(self, *arguments, **options)

    def encode_text(self: Any, *arguments: Any, **options: Any) -> Any:
        with record_function(TEXT):
            return type(self).encode_text(self, *arguments, **options)

    # Bound methods of an object are bound again when the object is copied.
    for method in (encode_image, encode_text):
        setattr(model, method.__name__, MethodType(method, model))
    return model


class ProfiledSteps(Clock):
    """A reporter that profiles all steps except the first."""

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__()
        self._steps, self._on_gpu = steps, device.type == "cuda"
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        self._profile = profile(activities=kinds, record_shapes=True)

    def step(self, progress: StepProgress) -> None:
        super().step(progress)
        if progress.step == 1:
            self._profile.start()
            self.ends[0] = time.monotonic()
        elif progress.step == self._steps:
            self._profile.stop()

    def groups(self) -> dict[str, float]:
        """Return the seconds per step by group of operators, without their children, and the rest."""
        events = [e for e in self._profile.events() or [] if e.device_type.name == "CPU"]
        of_text = {
            e.sequence_nr for e in events if e.sequence_nr >= 0 and TEXT in (a.name for a in _ancestry(e))
        }
        seconds: dict[str, float] = defaultdict(float)
        for event in events:
            own = event.self_device_time_total if self._on_gpu else event.self_cpu_time_total
            seconds[group_of(event, of_text)] += own / 1e6 / (self._steps - 1)
        seconds[REST] += self.seconds_a_step - sum(seconds.values())
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def group_of(event: Any, of_text: set[int]) -> str:
    """Return the group of a profiled operator.

    Args:
        of_text: sequence numbers of the text tower's forward operators. A backward node has the number of its
            forward operator.
    """
    ancestry = list(_ancestry(event))
    names = [a.name for a in ancestry]
    if any(name.startswith("Optimizer.") for name in names):
        return OPTIMISER
    if TEACHER in names:
        return TEACHER
    back = next((a for a in ancestry if a.name.startswith("autograd::engine::evaluate_function")), None)
    if TEXT in names or (back is not None and back.sequence_nr in of_text):
        return TEXT
    if any("_Depthwise" in name for name in names) or any(_is_depthwise(a) for a in ancestry):
        return DEPTHWISE
    if not event.name.startswith("aten::"):
        return REST
    if re.search("(batch|layer|group)_norm", event.name):
        return NORMS
    return MATRIX if MATRIX_OPERATORS.search(event.name) else ELEMENTWISE


def _ancestry(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _is_depthwise(event: Any) -> bool:
    """Return True for a convolution with filters [C, 1, K, K]."""
    shapes = event.input_shapes or []
    return "conv" in event.name and any(len(s) == 4 and s[0] > 1 and s[1] == 1 for s in shapes[1:3])
