"""adapt(): from a few labelled pictures to θ_1, a measured result and a report."""

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
from core.clip.prompts import class_texts
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
    """The trained classes, in the order of their first picture."""
    weights: Weights
    """As they are to be stored; the ensemble is made when the model is used."""
    metrics: Mapping[str, Any]
    """As in the HTTP contract."""
    report: Report | None
    """None with `config.evaluate` "none"."""
    held: HeldOutPredictions | None
    """What networks answered to pictures that they were not trained on; None if none was asked."""


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
    are trained on a part of the pictures (`core.clip.data.splits`), unless `config.evaluate` is "none".

    With `checkpoints` a training that was cut off goes on, and one that is cut off can.

    Args:
        seconds: how long all of it may take. What is left out if the time is short is the siblings.

    Raises:
        InvalidClassNames: fewer than two classes.
        BadImage: a picture can't be read.
        Cancelled, TrainingDiverged, OutOfMemory, InvalidConfig: see `fine_tune`.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    class_names = tuple(dict.fromkeys(shot.class_name for shot in shots))
    if len(class_names) < 2:
        raise InvalidClassNames(f"A classifier needs at least 2 classes; there are {len(class_names)}.")
    placed = list(enumerate(shots))
    asked = list(enumerate(tests, start=len(shots)))
    if not tests and config.holdout:
        out = holdout_places(shots, config.holdout, config.seed)
        asked, placed = [placed[i] for i in sorted(out)], [(i, s) for i, s in placed if i not in out]
        measured_names = {shot.class_name for _, shot in asked}
        unmeasured = [name for name in class_names if name not in measured_names]
        if unmeasured:
            reporter.warn(
                "class_not_measured",
                f"Too few pictures to hold any out, so not measured: {', '.join(unmeasured[:10])}. Add "
                "pictures, raise holdout, or send test pictures.",
            )

    try:
        label = {name: i for i, name in enumerate(class_names)}
        # As large as the largest crop needs, and no larger: all pictures stay in memory.
        shortest_side = math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
        reporter.stage("training")
        sources = [shot.source for _, shot in placed]
        pictures = read_images(sources, limits, shortest_side)
        labels = [label[shot.class_name] for _, shot in placed]
        later = sum(efforts(labels, len(asked), config))
        training, appraising = parts(reporter, [effort_of(len(labels), config), later])
        trained = fine_tune(
            backbone,
            pictures,
            labels,
            [class_texts(name, config.templates, config.texts) for name in class_names],
            config,
            training,
            checkpoints=checkpoints,
        )
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.weights)
        weights = Weights(delta, encode_support_set(backbone, delta, pictures, labels))
        took = time.monotonic() - started
        positions = [position for position, _ in placed]
        evaluation = evaluate(
            EvalContext(
                backbone,
                weights,
                TrainingSet(class_names, sources, positions, pictures, labels, took),
                config,
                limits,
            ),
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
