"""adapt(): from a few labelled pictures to θ_1 and a measured result."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.balance import KEPT_AT, NEW_NAMES_BALANCE, SHOTS_KEPT, KeptShots, name_offsets
from core.clip.checkpoint import Checkpoints
from core.clip.config import AdaptConfig
from core.clip.delta import Delta, encode
from core.clip.errors import Cancelled, InvalidClassNames, OutOfMemory
from core.clip.evaluate import BaseToNew, compare, job_metrics
from core.clip.images import PictureLimits, open_picture
from core.clip.memory import is_out_of_memory
from core.clip.progress import Reporter, Silent
from core.clip.prompts import class_indices, class_texts, same_class
from core.clip.trainer import fine_tune
from core.clip.transforms import to_picture, to_tensor
from core.clip.weights import Weights
from core.clip.zero_shot import PICTURES_AT_ONCE, image_features, text_head

DECODERS = 4


@dataclass(frozen=True)
class Shot:
    """One labelled picture, still as a file."""

    source: bytes | Path
    class_name: str


@dataclass(frozen=True)
class Adapted:
    class_names: tuple[str, ...]
    """The trained classes, in the order of their first picture."""
    weights: Weights
    """As they are to be stored; the ensemble is made when the model is used."""
    metrics: Mapping[str, Any]
    """As in the HTTP contract."""
    comparison: BaseToNew | None


def adapt(
    backbone: Backbone,
    shots: Sequence[Shot],
    config: AdaptConfig,
    *,
    tests: Sequence[Shot] = (),
    reporter: Reporter | None = None,
    limits: PictureLimits = PictureLimits(),
    checkpoints: Checkpoints | None = None,
) -> Adapted:
    """Fine-tune CLIP on `shots` with CLIP-CITE and measure the ensemble θ(α) against the stock network.

    It is measured on `tests`, which may hold classes that are not trained; without them on the
    share `config.holdout` of each class, which is then not trained on; without either not at all.

    With `checkpoints` a training that was cut off goes on, and one that is cut off can.

    Raises:
        InvalidClassNames: fewer than two classes.
        BadPicture: a picture can't be read.
        Cancelled, TrainingDiverged, OutOfMemory, InvalidConfig: see `fine_tune`.
    """
    reporter = reporter or Silent()
    class_names = tuple(dict.fromkeys(shot.class_name for shot in shots))
    if len(class_names) < 2:
        raise InvalidClassNames(f"A classifier needs at least 2 classes; there are {len(class_names)}.")
    held_out: list[Shot] = []
    if not tests and config.holdout:
        shots, held_out = split_holdout(shots, config.holdout, config.seed)
        measured_names = {shot.class_name for shot in held_out}
        unmeasured = [name for name in class_names if name not in measured_names]
        if unmeasured:
            reporter.warn(
                "class_not_measured",
                f"Too few pictures to hold any out, so not measured: {', '.join(unmeasured[:10])}. Add "
                "pictures, raise holdout, or send test pictures.",
            )
    measured = list(tests) or held_out

    try:
        label = {name: i for i, name in enumerate(class_names)}
        # As large as the largest crop needs, and no larger: all pictures stay in memory.
        shortest_side = math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
        reporter.stage("training")
        pictures = _read([shot.source for shot in shots], limits, shortest_side)
        labels = [label[shot.class_name] for shot in shots]
        trained = fine_tune(
            backbone,
            pictures,
            labels,
            [class_texts(name, config.templates, config.texts) for name in class_names],
            config,
            reporter,
            checkpoints=checkpoints,
        )
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.weights)
        weights = Weights(delta, keep_shots(backbone, delta, pictures, labels))
        comparison = None
        if measured:
            reporter.stage("measuring")
            comparison = measure(backbone, weights, class_names, measured, config, reporter, limits)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device ran out of memory. Use a smaller batch_size (now {config.batch_size}) or "
            f"image_size (now {backbone.image_size})."
        ) from error
    metrics = job_metrics(
        comparison,
        source="test" if tests else "holdout",
        images=len(measured),
        trained_images=len(shots),
    )
    return Adapted(class_names, weights, metrics, comparison)


def keep_shots(
    backbone: Backbone, delta: Delta, pictures: Sequence[Tensor], labels: Sequence[int]
) -> KeptShots:
    """What θ(α) makes of the trained pictures at the α of `KEPT_AT`.

    Args:
        pictures: uint8 [3, H, W]; of many, every second, third, … is taken.
    """
    every = math.ceil(len(pictures) / SHOTS_KEPT)
    chosen = pictures[::every]
    pixels = torch.stack([backbone.preprocess(to_picture(picture)) for picture in chosen])
    theta_0 = tower_parameters(backbone.model)
    networks = (with_parameters(backbone, delta.theta(theta_0, alpha)) for alpha in KEPT_AT)
    features = torch.stack([image_features(network, pixels).cpu() for network in networks])
    return KeptShots(features, torch.tensor(labels[::every]))


def measure(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    tests: Sequence[Shot],
    config: AdaptConfig,
    reporter: Reporter,
    limits: PictureLimits = PictureLimits(),
) -> BaseToNew:
    """Compare stock and θ(α) on labelled pictures, with trained, new and all names as candidates, at
    the service's default balance.

    Args:
        weights: as they are served, so a loss in packing them is part of the result.
    """
    spelling = {same_class(name): name for name in class_names}
    truths = [spelling.setdefault(same_class(shot.class_name), shot.class_name) for shot in tests]
    names = list(dict.fromkeys([*class_names, *truths]))
    texts = [class_texts(name, config.templates, config.texts) for name in names]
    theta = weights.theta(tower_parameters(backbone.model), config.alpha)
    networks = (backbone.model, with_parameters(backbone, theta))
    heads = [text_head(network, backbone.tokenize, texts) for network in networks]  # [C, D] each
    cosines: tuple[list[Tensor], list[Tensor]] = ([], [])
    for pixels in _test_batches(backbone, tests, limits):
        if reporter.cancelled():
            raise Cancelled("The measuring was cancelled.")
        for network, head, of_network in zip(networks, heads, cosines, strict=True):
            of_network.append((image_features(network, pixels) @ head.T).cpu())
    stock, adapted = (torch.cat(of_network).numpy() for of_network in cosines)
    truth = np.array([names.index(name) for name in truths])
    shots = weights.shots
    if config.alpha and shots is not None:
        classes = class_indices(names, class_names)
        of_shots = shots.at(config.alpha)
        adapted -= name_offsets(of_shots, shots.labels, heads[1].cpu(), classes, NEW_NAMES_BALANCE).numpy()
    return compare(stock, adapted, truth, len(class_names))


def _test_batches(backbone: Backbone, tests: Sequence[Shot], limits: PictureLimits) -> Iterator[Tensor]:
    """[B, 3, S, S], the next batch read and preprocessed in threads while this one is used."""

    def read(shot: Shot) -> Tensor:
        picture = open_picture(shot.source, limits, shortest_side=2 * backbone.image_size)
        return backbone.preprocess(picture)

    with ThreadPoolExecutor(DECODERS) as threads:
        starts = range(0, len(tests), PICTURES_AT_ONCE)
        batches = [[*tests[start : start + PICTURES_AT_ONCE]] for start in starts]
        ahead = [threads.submit(read, shot) for shot in batches[0]]
        for following in [*batches[1:], []]:
            ready, ahead = ahead, [threads.submit(read, shot) for shot in following]
            yield torch.stack([future.result() for future in ready])


def split_holdout(shots: Sequence[Shot], holdout: float, seed: int) -> tuple[list[Shot], list[Shot]]:
    """(kept for training, held out): about `holdout` of each class, never the whole of one."""
    generator = np.random.default_rng(seed)
    out: set[int] = set()
    for name in dict.fromkeys(shot.class_name for shot in shots):
        of_class = [i for i, shot in enumerate(shots) if shot.class_name == name]
        count = min(round(holdout * len(of_class)), len(of_class) - 1)
        out.update(generator.choice(of_class, size=count, replace=False).tolist())
    kept = [shot for i, shot in enumerate(shots) if i not in out]
    return kept, [shots[i] for i in sorted(out)]


def _read(sources: Sequence[bytes | Path], limits: PictureLimits, shortest_side: int) -> list[Tensor]:
    def read(source: bytes | Path) -> Tensor:
        return to_tensor(open_picture(source, limits, shortest_side=shortest_side))

    with ThreadPoolExecutor(DECODERS) as threads:
        return list(threads.map(read, sources))
