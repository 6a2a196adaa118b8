"""The training pipeline `adapt()`: read images, fine-tune, encode the delta, evaluate."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from clipcite.types.images import Image, ImageStats
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.checks.near_duplicates import find_originals
from core.clip.config import AdaptConfig
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.data.loader import DECODERS, read_images
from core.clip.errors import InvalidClassNames, OutOfMemory
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.evaluate import Evaluated, evaluate, warn_of_unrecognised_classes
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.device import is_out_of_memory
from core.clip.models.features import file_features
from core.clip.prompts import class_prompts
from core.clip.training.checkpoint import Checkpoints
from core.clip.training.progress import Reporter
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import encode_support_set, support_shots


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, complete and usable before its evaluation."""

    weights: Weights
    """The weights to store. θ(α) is computed when the model is loaded."""
    seconds: float
    """Duration of the training."""


@dataclass(frozen=True)
class Adapted:
    """An adapted model and its evaluation."""

    class_names: tuple[str, ...]
    """The trained classes, in the order of their first image."""
    weights: Weights
    seconds: float
    """Duration of the training."""
    evaluation: Evaluated


def adapt(
    backbone: Backbone,
    images: Sequence[Image],
    config: AdaptConfig,
    *,
    reporter: Reporter | None = None,
    limits: ImageLimits = ImageLimits(),
    checkpoints: Checkpoints | None = None,
    on_trained: Callable[[TrainedModel], None] = lambda trained: None,
    trained: TrainedModel | None = None,
) -> Adapted:
    """Fine-tune CLIP on images with CLIP-CITE and compare the ensemble θ(α) with the stock model.

    The evaluation uses the images of the split `test`, which may have new classes. Without any it
    cross-validates with fold models (`core.clip.data.splits`). With `config.evaluate` "none" it is skipped.
    The report names images by their index in `images`.

    Args:
        checkpoints: checkpoints to resume from and to write. None disables checkpoints.
        on_trained: called with the model before its evaluation.
        trained: result of an earlier call with the same arguments. It is only evaluated.

    Raises:
        InvalidClassNames: fewer than two classes.
        BadImage: an image can't be read.
        Cancelled, TrainingDiverged, OutOfMemory, InvalidConfig: as for `fine_tune`.
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    positions = [i for i, image in enumerate(images) if image.split == "train"]
    tests = [(i, image) for i, image in enumerate(images) if image.split == "test"]
    trained_images = [images[i] for i in positions]
    class_names = tuple(dict.fromkeys(image.class_name for image in trained_images))
    if len(class_names) < 2:
        raise InvalidClassNames(f"A classifier needs at least 2 classes; there are {len(class_names)}.")
    theta_0 = tower_parameters(backbone.model)
    try:
        # 1. Read images. Copies may not be trained on while their original is evaluated.
        reporter.phase("reading")
        copied = range(len(positions)) if config.evaluate == "none" else _originals(trained_images, limits)
        index_of = {name: i for i, name in enumerate(class_names)}
        labels = [index_of[image.class_name] for image in trained_images]
        prompts = [class_prompts(name, config.templates, config.prompts) for name in class_names]
        # All images stay in memory, as large as the largest crop needs.
        side = math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
        pixels = read_images(trained_images, limits, side)
        # Features at α = 0, for the support set and the evaluation.
        reporter.phase("features")
        stock = file_features(backbone, trained_images, limits)

        if trained is None:
            # 2. Fine-tune: θ_1.
            reporter.phase("steps")
            theta_1 = fine_tune(backbone, pixels, labels, prompts, config, reporter, checkpoints=checkpoints)

            # 3. Encode the delta θ_1 − θ_0.
            reporter.phase("support")
            delta = encode(theta_0, theta_1, config.delta_format)
            del theta_1
            network = with_parameters(backbone, delta.theta(theta_0, config.alpha))
            support_set = encode_support_set(
                *(backbone, delta, pixels, labels, stock[support_shots(labels)]),
                networks={config.alpha: network},
            )
            trained = TrainedModel(Weights(delta, support_set), time.monotonic() - started)
            on_trained(trained)
        else:
            network = with_parameters(backbone, trained.weights.theta(theta_0, config.alpha))

        # 4. Evaluate θ(α) against θ_0.
        distinct = [i for i, original in enumerate(copied) if i == original]
        training_set = TrainingSet(
            class_names,
            [labels.count(k) for k in range(len(class_names))],
            [trained_images[i] for i in distinct],
            [positions[i] for i in distinct],
            [pixels[i] for i in distinct],
            [labels[i] for i in distinct],
            stock[distinct],
        )
        context = EvalContext(backbone, training_set, config, limits)
        warn_of_unrecognised_classes(context, trained.weights, network, reporter)
        of_tests = network if tests else None
        del network  # fold models need the memory
        evaluation = evaluate(context, trained.weights, tests, reporter, of_tests)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device ran out of memory. Use a smaller batch_size (now {config.batch_size}) or "
            f"image_size (now {backbone.image_size})."
        ) from error
    return Adapted(class_names, trained.weights, trained.seconds, evaluation)


def _originals(images: Sequence[Image], limits: ImageLimits) -> list[int]:
    """Return, for each image, the index of the first one in its class that it copies, or its own index."""

    def measured(image: Image) -> ImageStats:
        if image.stats is not None:
            return image.stats
        return measure_image(open_image(image.read(), limits, shortest_side=SIDE, grey=True))

    with ThreadPoolExecutor(DECODERS) as threads:
        stats = list(threads.map(measured, images))
    return find_originals(stats, [image.class_name for image in images])
