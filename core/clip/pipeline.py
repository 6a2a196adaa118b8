"""The training pipeline `adapt()`: read images, fine-tune, encode the delta, evaluate."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from core.clip.config import AdaptConfig
from core.clip.data.images import ImageLimits, Shot
from core.clip.data.loader import read_images
from core.clip.data.splits import holdout_positions
from core.clip.errors import InvalidClassNames, OutOfMemory
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.cross_validation import training_cost
from core.clip.evaluation.evaluate import Evaluation, evaluate, stage_costs
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.prompts import class_prompts
from core.clip.training.checkpoint import Checkpoints
from core.clip.training.microbatch import is_out_of_memory
from core.clip.training.progress import Reporter, Silent, split_progress
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import encode_support_set

__all__ = ["Adapted", "Shot", "adapt"]


@dataclass(frozen=True)
class Adapted:
    """An adapted model and its evaluation."""

    class_names: tuple[str, ...]
    """The trained classes, in the order of their first image."""
    weights: Weights
    """The weights to store. θ(α) is computed when the model is loaded."""
    evaluation: Evaluation


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
    """Fine-tune CLIP on `shots` with CLIP-CITE and compare the ensemble θ(α) with the stock model.

    The evaluation uses `tests`, which may hold new classes. Without tests it uses the share
    `config.holdout` of each class, which is then not trained on. Without either it cross-validates with
    fold models (`core.clip.data.splits`), unless `config.evaluate` is "none".

    Args:
        checkpoints: where to resume from and where to write; None disables checkpoints.
        seconds: time limit of the whole call. If time runs short, cross-validation is skipped.

    Raises:
        InvalidClassNames: fewer than two classes.
        BadImage: an image can't be read.
        Cancelled, TrainingDiverged, OutOfMemory, InvalidConfig: as for `fine_tune`.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    class_names = tuple(dict.fromkeys(shot.class_name for shot in shots))
    if len(class_names) < 2:
        raise InvalidClassNames(f"A classifier needs at least 2 classes; there are {len(class_names)}.")
    training_shots, test_shots = _split(shots, tests, config, reporter)
    try:
        # 1. Read images.
        reporter.stage("training")
        sources = [shot.source for _, shot in training_shots]
        images = read_images(sources, limits, _shortest_side(backbone, config))
        index_of = {name: i for i, name in enumerate(class_names)}
        labels = [index_of[shot.class_name] for _, shot in training_shots]

        # 2. Fine-tune: θ_1.
        evaluation_cost = sum(stage_costs(labels, len(test_shots), config))
        training_reporter, evaluation_reporter = split_progress(
            reporter, [training_cost(len(labels), config), evaluation_cost]
        )
        prompts = [class_prompts(name, config.templates, config.prompts) for name in class_names]
        trained = fine_tune(
            backbone, images, labels, prompts, config, training_reporter, checkpoints=checkpoints
        )

        # 3. Encode the delta θ_1 − θ_0.
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.delta_format)
        weights = Weights(delta, encode_support_set(backbone, delta, images, labels))

        # 4. Evaluate θ(α) against θ_0.
        elapsed = time.monotonic() - started
        positions = [position for position, _ in training_shots]
        confirmed = frozenset(position for position, shot in training_shots if shot.label_confirmed)
        training_set = TrainingSet(class_names, sources, positions, images, labels, elapsed, confirmed)
        evaluation = evaluate(
            EvalContext(backbone, weights, training_set, config, limits),
            test_shots,
            "test" if tests else "holdout",
            evaluation_reporter,
            seconds_left=None if seconds is None else seconds - elapsed,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device ran out of memory. Use a smaller batch_size (now {config.batch_size}) or "
            f"image_size (now {backbone.image_size})."
        ) from error
    return Adapted(class_names, weights, evaluation)


def _split(
    shots: Sequence[Shot], tests: Sequence[Shot], config: AdaptConfig, reporter: Reporter
) -> tuple[list[tuple[int, Shot]], list[tuple[int, Shot]]]:
    """Return the shots to train on and those to evaluate on, with their upload positions.

    The positions of `tests` follow those of `shots`.
    """
    placed = list(enumerate(shots))
    if tests or not config.holdout:
        return placed, list(enumerate(tests, start=len(shots)))
    out = holdout_positions(shots, config.holdout, config.seed)
    evaluated_names = {shots[i].class_name for i in out}
    unmeasured = [name for name in dict.fromkeys(s.class_name for s in shots) if name not in evaluated_names]
    if unmeasured:
        reporter.warn(
            "class_not_evaluated",
            f"Not evaluated, because these classes have too few images to hold any out: "
            f"{', '.join(unmeasured[:10])}. Add images, raise holdout, or send test images.",
        )
    return [(i, s) for i, s in placed if i not in out], [placed[i] for i in sorted(out)]


def _shortest_side(backbone: Backbone, config: AdaptConfig) -> int:
    """Return the shortest side (pixels) that the largest crop needs. All images stay in memory."""
    return math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
