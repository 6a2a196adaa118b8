"""adapt(): from a few labelled images to θ_1, a measured result and a report."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.clip.config import AdaptConfig
from core.clip.data.images import ImageLimits, Shot
from core.clip.data.loader import read_images
from core.clip.data.splits import holdout_places
from core.clip.errors import InvalidClassNames, OutOfMemory
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.cross_validation import effort_of
from core.clip.evaluation.evaluate import efforts, evaluate
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.evaluation.report import Report
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.prompts import class_prompts
from core.clip.training.checkpoint import Checkpoints
from core.clip.training.microbatch import is_out_of_memory
from core.clip.training.progress import Reporter, Silent, parts
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import encode_support_set

__all__ = ["Adapted", "Shot", "adapt"]


@dataclass(frozen=True)
class Adapted:
    class_names: tuple[str, ...]
    """The trained classes, in the order of their first image."""
    weights: Weights
    """As they are to be stored; the ensemble is made when the model is used."""
    metrics: Mapping[str, Any]
    """As in the HTTP contract."""
    report: Report | None
    """None with `config.evaluate` "none"."""
    held: HeldOutPredictions | None
    """What networks answered to images that they were not trained on; None if none was asked."""


def adapt(
    backbone: Backbone,
    shots: Sequence[Shot],
    config: AdaptConfig,
    *,
    tests: Sequence[Shot] = (),
    reporter: Reporter | None = None,
    limits: ImageLimits = ImageLimits(),
    checkpoints: Checkpoints | None = None,
    seconds: float | None = None,
) -> Adapted:
    """Fine-tune CLIP on `shots` with CLIP-CITE and measure the ensemble θ(α) against the stock network.

    It is measured on `tests`, which may hold classes that are not trained; without them on the
    share `config.holdout` of each class, which is then not trained on; without either by siblings that
    are trained on a part of the images (`core.clip.data.splits`), unless `config.evaluate` is "none".

    With `checkpoints` a training that was cut off goes on, and one that is cut off can.

    Args:
        seconds: how long all of it may take. What is left out if the time is short is the siblings.

    Raises:
        InvalidClassNames: fewer than two classes.
        BadImage: an image can't be read.
        Cancelled, TrainingDiverged, OutOfMemory, InvalidConfig: see `fine_tune`.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    class_names = tuple(dict.fromkeys(shot.class_name for shot in shots))
    if len(class_names) < 2:
        raise InvalidClassNames(f"A classifier needs at least 2 classes; there are {len(class_names)}.")
    placed, asked = _split(shots, tests, config, reporter)
    try:
        # 1. Read images.
        reporter.stage("training")
        sources = [shot.source for _, shot in placed]
        images = read_images(sources, limits, _shortest_side(backbone, config))
        index_of = {name: i for i, name in enumerate(class_names)}
        labels = [index_of[shot.class_name] for _, shot in placed]

        # 2. Fine-tune: θ_1.
        later = sum(efforts(labels, len(asked), config))
        training, appraising = parts(reporter, [effort_of(len(labels), config), later])
        prompts = [class_prompts(name, config.templates, config.prompts) for name in class_names]
        trained = fine_tune(backbone, images, labels, prompts, config, training, checkpoints=checkpoints)

        # 3. Encode the delta θ_1 − θ_0.
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.delta_format)
        weights = Weights(delta, encode_support_set(backbone, delta, images, labels))

        # 4. Evaluate θ(α) against θ_0.
        took = time.monotonic() - started
        positions = [position for position, _ in placed]
        training_set = TrainingSet(class_names, sources, positions, images, labels, took)
        evaluation = evaluate(
            EvalContext(backbone, weights, training_set, config, limits),
            asked,
            "test" if tests else "holdout",
            appraising,
            seconds_left=None if seconds is None else seconds - took,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device ran out of memory. Use a smaller batch_size (now {config.batch_size}) or "
            f"image_size (now {backbone.image_size})."
        ) from error
    return Adapted(class_names, weights, **vars(evaluation))


def _split(
    shots: Sequence[Shot], tests: Sequence[Shot], config: AdaptConfig, reporter: Reporter
) -> tuple[list[tuple[int, Shot]], list[tuple[int, Shot]]]:
    """Return the shots to train on and to evaluate on, each with its position; `tests` follow `shots`."""
    placed = list(enumerate(shots))
    if tests or not config.holdout:
        return placed, list(enumerate(tests, start=len(shots)))
    out = holdout_places(shots, config.holdout, config.seed)
    measured_names = {shots[i].class_name for i in out}
    unmeasured = [name for name in dict.fromkeys(s.class_name for s in shots) if name not in measured_names]
    if unmeasured:
        reporter.warn(
            "class_not_measured",
            f"Too few images to hold any out, so not measured: {', '.join(unmeasured[:10])}. Add "
            "images, raise holdout, or send test images.",
        )
    return [(i, s) for i, s in placed if i not in out], [placed[i] for i in sorted(out)]


def _shortest_side(backbone: Backbone, config: AdaptConfig) -> int:
    """Return the side in pixels that the largest crop needs, and no more: all images stay in memory."""
    return math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
