"""Reduced precision against fp32: changed answers, calibration and speed.

The rule: at most 1 of 1,000 answers, the most likely class of an image, may change. A model is trained on
half of the classes. All test images are classified by it and by the stock model, in each kind of request.

A CPU computes fp32, and bf16 if it has instructions for it. All other precisions are emulated there: the
operands of products and convolutions are rounded, and in bf16 and fp16 also their results. Whether a GPU
rounds to TF32 or truncates depends on the kernel, so both are emulated.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes, draw_shots
from benchmarks.serving.forms import seconds_per_image
from core.clip.config import resolve_config
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.inference.calibration import fit_calibration
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.classifier import Scores, scored
from core.clip.inference.optimised import InferenceNetwork, InferencePlan, plan_inference
from core.clip.inference.request_rule import request_rule
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.device import allow_tf32, mixed_precision
from core.clip.models.features import (
    CPU_IMAGE_BATCH_SIZE,
    IMAGE_BATCH_SIZE,
    build_zero_shot_classifier,
)
from core.clip.pipeline import Shot, adapt
from core.clip.prompts import class_prompts
from core.clip.weights.files import Weights
from core.serving.calibrated import calibrate

RULE = 1.0
"""Maximum number of changed answers of 1,000."""
EXACT = "fp32"
SHOTS = 16
COVERAGE = 0.9
ROUNDS = 5
ALPHA = 0.5


@dataclass(frozen=True)
class Form:
    """One way to compute the features."""

    plan: InferencePlan
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    emulated: bool = False


class Rounded(TorchDispatchMode):
    """Emulation of a precision: rounds the operands of products and convolutions.

    Args:
        results: round the results too.
    """

    def __init__(self, rounding: Callable[[Tensor], Tensor], *, results: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounding = rounding
        self._results = results

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        factors, bias = OPERANDS.get(func.overloadpacket.__name__, ((), ()))
        changed = list(args)
        for i in (*factors, *(bias if self._results else ())):
            changed[i] = None if changed[i] is None else self._rounding(changed[i])
        result = func(*changed, **(kwargs or {}))
        if not factors or not self._results:
            return result
        if isinstance(result, Tensor):
            return self._rounding(result)
        return (self._rounding(result[0]), *result[1:])


OPERANDS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "convolution": ((0, 1), (2,)),
    "mm": ((0, 1), ()),
    "bmm": ((0, 1), ()),
    "addmm": ((1, 2), (0,)),
    "baddbmm": ((1, 2), (0,)),
    "_scaled_dot_product_flash_attention_for_cpu": ((0, 1, 2), ()),
}
"""Positions of factors and bias, by operation."""


def to_tf32(x: Tensor, *, truncated: bool = False) -> Tensor:
    """Round fp32 to TF32, which has 10 of the 23 bits of the mantissa."""
    bits = x.view(torch.int32)
    return ((bits if truncated else bits + 0x1000) & ~0x1FFF).view(torch.float32)


def forms_of(backbone: Backbone) -> dict[str, Form]:
    """Return the precisions of the service by name, fp32 first."""
    pixels = Pixels(backbone.preprocess)

    def plan(dtype: torch.dtype | None = None) -> InferencePlan:
        return plan_inference(backbone.model, backbone.image_size, pixels, dtype)

    bf16 = Form(plan(torch.bfloat16))
    if backbone.device.type == "cuda":
        return {EXACT: Form(plan()), "tf32": Form(plan(), Tf32), "bf16": bf16, "fp16": Form(plan(torch.half))}
    unchanged = InferencePlan(backbone.image_size, pixels)

    def emulated(rounding: Callable[[Tensor], Tensor], *, results: bool) -> Form:
        return Form(unchanged, lambda: Rounded(rounding, results=results), emulated=True)

    native = mixed_precision("auto", backbone.device) is torch.bfloat16
    return {
        EXACT: Form(plan()),
        "tf32, rounded": emulated(to_tf32, results=False),
        "tf32, truncated": emulated(lambda x: to_tf32(x, truncated=True), results=False),
        "bf16": bf16 if native else emulated(lambda x: x.bfloat16().float(), results=True),
        "fp16": emulated(lambda x: x.half().float(), results=True),
    }


class Tf32:
    """Context in which a GPU computes fp32 in TF32."""

    def __enter__(self) -> None:
        allow_tf32(True)

    def __exit__(self, *error: object) -> None:
        allow_tf32(False)


@dataclass(frozen=True)
class Task:
    """The images, and the model trained on half of the classes."""

    images: Tensor
    """Fitted images, uint8 [N, S, S, 3]."""
    truth: Tensor
    """[N]."""
    prompts: Sequence[Sequence[str]]
    base: Sequence[int]
    """The trained classes."""
    weights: Weights

    @property
    def requests(self) -> Mapping[str, tuple[Sequence[int], Sequence[int]]]:
        """Candidates and, for the images, their classes, by kind of request."""
        every = range(len(self.prompts))
        new = [c for c in every if c not in self.base]
        return {
            "stock": (every, every),
            "trained classes": (self.base, self.base),
            "new classes": (new, new),
            "all classes": (every, every),
        }


def make_task(backbone: Backbone, data: DataSet, epochs: int | None) -> Task:
    base = base_classes(0, len(data.class_names))
    names, (template, *_) = data.class_names, data.templates
    shots = [Shot(e.path, names[e.label]) for e in draw_shots(data.train, base, SHOTS, 0)]
    settings = {} if epochs is None else {"epochs": epochs}
    config = resolve_config(backbone=backbone.name, evaluate="none", **settings)
    pixels, side = Pixels(backbone.preprocess), 2 * backbone.image_size
    return Task(
        torch.stack([pixels.fit(open_image(e.path, shortest_side=side)) for e in data.test]),
        torch.tensor([e.label for e in data.test]),
        [class_prompts(name, [template]) for name in names],
        base,
        adapt(backbone, shots, config).weights,
    )


@dataclass
class Measured:
    """The results of one precision."""

    scores: dict[str, Scores] = field(default_factory=dict)
    """By kind of request."""
    coverage: float = 0.0
    """Share of prediction sets with the true class, by the calibration in fp32."""
    seconds: list[float] = field(default_factory=list)
    """Seconds per image, by round."""


@torch.no_grad()
def measure(backbone: Backbone, task: Task) -> dict[str, Measured]:
    """Classify all images in each precision, then measure the speed, all precisions in turn."""
    adapted = with_parameters(backbone, task.weights.theta(tower_parameters(backbone.model), ALPHA))
    forms, results = forms_of(backbone), {}
    for name, form in forms.items():
        with form.context():
            results[name] = Measured(_scores(backbone, task, form, adapted))
        results[name].coverage = _coverage(backbone, task, results[EXACT], results[name])
    batch = CPU_IMAGE_BATCH_SIZE if backbone.device.type == "cpu" else IMAGE_BATCH_SIZE
    images = task.images[:batch].to(backbone.device)
    timed = {name: form for name, form in forms.items() if not form.emulated}
    if "bf16" not in timed:  # emulated for its answers
        dtype = torch.bfloat16
        plan = plan_inference(backbone.model, backbone.image_size, Pixels(backbone.preprocess), dtype)
        timed["bf16"] = Form(plan)
    networks = {name: form.plan.of(backbone.model) for name, form in timed.items()}
    for number in range(ROUNDS + 1):
        for name, form in timed.items():
            with form.context():
                seconds = seconds_per_image(networks[name].encode_fitted, images, batch)
            if number:  # the first round warms up
                results[name].seconds.append(seconds)
    return results


def _scores(backbone: Backbone, task: Task, form: Form, adapted: nn.Module) -> dict[str, Scores]:
    weights = task.weights.shots
    assert weights is not None
    shots = weights.at(ALPHA), weights.labels
    features = {
        kind: _features(backbone, task, form.plan.of(network))
        for kind, network in (("stock", backbone.model), ("adapted", adapted))
    }
    found = {}
    for name, (candidates, classes) in task.requests.items():
        images, texts = features["stock" if name == "stock" else "adapted"]
        texts = texts[list(candidates)]
        trained = [task.base.index(c) if c in task.base else NEW_CLASS for c in candidates]
        rule = request_rule(None if name == "stock" else shots, texts, trained)
        rows = torch.isin(task.truth, torch.tensor(list(classes)))
        found[name] = scored(images[rows], texts, rule, backbone.logit_scale)
    return found


def _features(backbone: Backbone, task: Task, network: InferenceNetwork) -> tuple[Tensor, Tensor]:
    """Return the features of all images [N, D] and of all classes [C, D]."""
    batch = CPU_IMAGE_BATCH_SIZE if backbone.device.type == "cpu" else IMAGE_BATCH_SIZE
    parts = [network.encode_fitted(some.to(backbone.device)).cpu() for some in task.images.split(batch)]
    texts = build_zero_shot_classifier(network, backbone.tokenize, task.prompts)
    return torch.cat(parts), texts.cpu()


def _coverage(backbone: Backbone, task: Task, exact: Measured, other: Measured) -> float:
    """Return the coverage on every second image, by the calibration in fp32 on the others."""
    candidates, _ = task.requests["trained classes"]
    truth = task.truth[torch.isin(task.truth, torch.tensor(list(candidates)))]
    truth = torch.tensor([list(candidates).index(int(c)) for c in truth])
    fitted, scores = exact.scores["trained classes"], other.scores["trained classes"]
    calibration = fit_calibration(
        fitted.scores[::2].double().numpy(),
        truth[::2].numpy().astype(np.int64),
        logit_scale=backbone.logit_scale,
        alpha=ALPHA,
    )
    assert calibration is not None, "A calibration needs 60 test images of trained classes."
    found = calibrate(
        calibration,
        scores,
        torch.zeros(0),
        None,
        range(len(candidates)),
        logit_scale=backbone.logit_scale,
        coverage=COVERAGE,
    )
    return float(found.in_set[torch.arange(len(truth)), truth][1::2].float().mean())


def table(results: Mapping[str, Measured], title: str) -> Table:
    """Return one row per precision."""
    exact = results[EXACT]
    result = Table(
        title,
        [
            "precision",
            "answers",
            *(f"changed, {name}" for name in exact.scores),
            "of 1,000",
            "rule",
            "largest change of a probability",
            f"coverage at {COVERAGE:.0%}",
            "images/s, of fp32",
        ],
        note=f"Rule: at most {RULE:g} of 1,000 answers changes. Coverage: prediction sets with the true "
        f"class, by a calibration in fp32. Speed: medians of {ROUNDS} rounds in turn, without decoding; "
        "emulated precisions have none.",
    )
    for name, measured in results.items():
        pairs = [(exact.scores[kind], measured.scores[kind]) for kind in exact.scores]
        changed = [
            int((a.probabilities.argmax(dim=-1) != b.probabilities.argmax(dim=-1)).sum()) for a, b in pairs
        ]
        answers = sum(len(a.probabilities) for a, _ in pairs)
        share = 1000 * sum(changed) / answers
        largest = max(float((a.probabilities - b.probabilities).abs().max()) for a, b in pairs)
        ratio = median(exact.seconds) / median(measured.seconds) if measured.seconds else None
        result.rows.append(
            [
                name,
                f"{answers:,}",
                *map(str, changed),
                f"{share:.1f}",
                "kept" if share <= RULE else "broken",
                f"{largest:.4f}",
                f"{measured.coverage:.1%}",
                "" if ratio is None else f"{ratio:.2f}",
            ]
        )
    return result
