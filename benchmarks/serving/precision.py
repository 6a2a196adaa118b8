"""Reduced precision against fp32: changed answers, calibration and speed.

The rule: at most 1 of 1,000 answers, the most likely class of an image, may change. A model is trained on
half of the classes. All test images are classified by it and by the stock model, in each kind of request.

A GPU computes in all precisions of CLIPCITE_SERVING_PRECISION, a CPU in fp32 and bf16.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from api.serving.calibrated import prediction_sets
from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes, draw_shots
from benchmarks.serving.throughput import seconds_per_image
from clipcite.types.images import Image
from core.clip.config import resolve_config
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.inference.calibration import fit_calibration
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.classifier import Scores, scored
from core.clip.inference.optimised import InferenceNetwork, InferencePlan, plan_inference
from core.clip.inference.request_rule import request_rule
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.device import allow_tf32
from core.clip.models.features import (
    CPU_IMAGE_BATCH_SIZE,
    IMAGE_BATCH_SIZE,
    build_zero_shot_classifier,
)
from core.clip.pipeline import adapt
from core.clip.prompts import class_prompts
from core.clip.weights.files import Weights

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


def forms_of(backbone: Backbone) -> dict[str, Form]:
    """Return the precisions of the service by name, fp32 first."""
    pixels = Pixels(backbone.preprocess)

    def plan(dtype: torch.dtype | None = None) -> InferencePlan:
        return plan_inference(backbone.model, backbone.image_size, pixels, dtype)

    bf16 = Form(plan(torch.bfloat16))
    if backbone.device.type == "cuda":
        return {EXACT: Form(plan()), "tf32": Form(plan(), Tf32), "bf16": bf16, "fp16": Form(plan(torch.half))}
    return {EXACT: Form(plan()), "bf16": bf16}


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
    shots = [Image(e.path, names[e.label]) for e in draw_shots(data.train, base, SHOTS, 0)]
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
    networks = {name: form.plan.of(backbone.model) for name, form in forms.items()}
    for number in range(ROUNDS + 1):
        for name, form in forms.items():
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
    logits = backbone.logit_scale / calibration.temperature * scores.scores
    names = list(map(str, range(len(candidates))))
    sets = prediction_sets(
        calibration, replace(scores, probabilities=logits.softmax(dim=-1)), names, COVERAGE
    )
    covered = [str(label) in chosen for label, chosen in zip(truth.tolist(), sets, strict=True)]
    return float(np.mean(covered[1::2]))


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
        f"class, by a calibration in fp32. Speed: medians of {ROUNDS} rounds in turn, without decoding.",
    )
    for name, measured in results.items():
        pairs = [(exact.scores[kind], measured.scores[kind]) for kind in exact.scores]
        changed = [
            int((a.probabilities.argmax(dim=-1) != b.probabilities.argmax(dim=-1)).sum()) for a, b in pairs
        ]
        answers = sum(len(a.probabilities) for a, _ in pairs)
        share = 1000 * sum(changed) / answers
        largest = max(float((a.probabilities - b.probabilities).abs().max()) for a, b in pairs)
        ratio = median(exact.seconds) / median(measured.seconds)
        result.rows.append(
            [
                name,
                f"{answers:,}",
                *map(str, changed),
                f"{share:.1f}",
                "kept" if share <= RULE else "broken",
                f"{largest:.4f}",
                f"{measured.coverage:.1%}",
                f"{ratio:.2f}",
            ]
        )
    return result
