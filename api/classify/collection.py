"""Classification of a collection by the features and labels of its images."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from api.classify.scoring import NothingToCompare, result_of, rule_of, score, sorter_of
from api.serving.service import Serving, Subject
from api.serving.types import ImageScores, Result
from clipcite.types.classify import Options
from clipcite.types.predictions import Calibration
from core.admission import Take
from core.clip.inference import pile
from core.clip.inference.answers import UNSAID
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.groups import groups
from core.clip.inference.labelled import SELF_TRAINED, Shots, self_training_or_reason
from core.clip.inference.which_next import which_next
from core.clip.prompts import same_class
from core.errors import ExpectedError

COLLECTION_COPIES, SCORE_COPIES = 5, 2
"""Number of copies of a collection's features and scores that are in memory at once, in float32."""


class WrongFeatures(ExpectedError):
    code = "invalid_features"
    status = 422


class WrongLabels(ExpectedError):
    code = "invalid_labels"
    status = 422


@dataclass(frozen=True)
class Collection:
    """Features [N, D] of a collection as they were sent, and what is requested of them."""

    rows: NDArray[np.float16]
    suggest: int = 0
    """Number of images to suggest for labelling."""
    groups: int = 0
    """Number of groups to return."""
    labels: Mapping[int, str | None] = field(default_factory=dict)
    """Cleaned class names of images by position. None means "none of these"."""

    def __len__(self) -> int:
        return len(self.rows)


def labels_of(collection: Collection, names: Sequence[str]) -> NDArray[np.int64]:
    """Return [N], the position of each image's label among the names, NONE or UNSAID.

    Raises:
        WrongLabels: a label is not a class name of the request.
    """
    labels = np.full(len(collection), UNSAID)
    column = {same_class(name): i for i, name in enumerate(names)}
    for at, name in collection.labels.items():
        if name is not None and same_class(name) not in column:
            raise WrongLabels(f"{name!r} in `labels` is not in `class_names`. Add it there.")
        labels[at] = pile.NONE if name is None else column[same_class(name)]
    return labels


def check_features(features: Tensor, width: int) -> None:
    """Raise WrongFeatures unless features [N, D] have this width."""
    if features.shape[1] != width:
        raise WrongFeatures(
            f"The features have {features.shape[1]} numbers each, but this model needs {width}. Send the "
            "`features` that POST /classify returned for the same model and alpha."
        )


def classify_collection(
    serving: Serving, collection: Collection, options: Options, model: Subject, *, owner: str, take: Take
) -> Result:
    """Score the images of a collection by their features.

    Raise the errors of `classify`, and WrongFeatures, WrongLabels.

    Args:
        owner: owner of the request, whose memory budget it uses.
    """
    started = time.perf_counter()
    count, width = collection.rows.shape
    copies = COLLECTION_COPIES * width + SCORE_COPIES * len(options.class_names or ())
    with serving.hold(model, options.alpha) as held, serving.memory.hold(owner, 4 * count * copies):
        classifier = serving.texts.classifier(held, options)
        serving.texts.encode(classifier, held, take)
        features = F.normalize(torch.from_numpy(collection.rows.astype(np.float32)), dim=-1)
        check_features(features, classifier.text_features.shape[1])
        sorter = sorter_of(held, classifier, options)
        shots = Shots.of(sorter, features, labels_of(collection, classifier.names))
        judgement, known = None, torch.ones(count, dtype=torch.bool)
        if options.reject or (collection.groups and collection.labels):
            support = shots.support()
            if not len(support.classes) and options.reject:
                raise NothingToCompare(has_images=len(shots.labels) > 0)
            judgement = pile.something_else(support, features.numpy())
        rule = rule_of(held, classifier, options)  # cached with the class names
        if len(shots.labels) > shots.trained:
            rule = shots.rule(sorter)
        if judgement is not None and options.reject:
            best = rule.scores(features).argmax(dim=1)
            new = torch.tensor([c == NEW_CLASS for c in shots.classes])[best]
            known = torch.from_numpy(judgement.known) | new
        free = known.clone()
        free[torch.tensor(list(collection.labels), dtype=torch.long)] = False
        trained = self_training_or_reason(features[free], sorter, shots, rule)
        if isinstance(trained, str):
            method = {"method": "image_by_image", "reason": trained}
        else:
            method, rule = {"method": "self_training", "reason": SELF_TRAINED}, trained
        rejecting = judgement if options.reject else None
        scores, results = score(held, classifier, rule, features, options, None, rejecting, shots.classes)
        if options.reject:
            for at, name in collection.labels.items():
                results[at].rejected = name is None
        unknown = (~known).nonzero()[:, 0].tolist()
        suggested = which_next(
            scores.probabilities, features, collection.suggest, collection.labels, unknown, shots.missing()
        )
        seconds = {"decode": 0.0, "encode": time.perf_counter() - started}
        result = result_of(held, classifier, scores, results, options, None, rejecting, started, seconds)
        groups = grouped(features, collection, judgement)
        return replace(result, collection={**method, "suggested": suggested, "groups": groups})


def group_collection(serving: Serving, collection: Collection, model: str, *, owner: str) -> Result:
    """Group the images of a collection without class names. The results have no predictions.

    Raise UnknownBackbone, ServerBusy.
    """
    started, backbone = time.perf_counter(), serving.stock_backbone(model)
    count, width = collection.rows.shape
    with serving.memory.hold(owner, 4 * count * COLLECTION_COPIES * width):
        features = F.normalize(torch.from_numpy(collection.rows.astype(np.float32)), dim=-1)
        groups = grouped(features, collection)
    reason = "No class names were sent, so the images are grouped but not classified."
    return Result(
        model=model,
        preview=False,
        backbone=backbone,
        alpha=0.0,
        rule="untrained",
        calibration=Calibration(calibrated=False),
        class_names=[],
        results=[ImageScores([]) for _ in range(count)],
        timing_ms={"decode": 0.0, "encode": 0.0, "total": round(1000 * (time.perf_counter() - started), 2)},
        warnings=[],
        collection={"method": "image_by_image", "reason": reason, "suggested": [], "groups": groups},
    )


def grouped(
    features: Tensor, collection: Collection, judgement: pile.Judgement | None = None
) -> list[list[int]]:
    """Return groups of similar images [N, D], as positions. Groups most worth labelling come first."""
    if not collection.groups:
        return []
    done = np.isin(np.arange(len(features)), list(collection.labels))
    doubt = None if judgement is None or not collection.labels else pile.doubt_of(judgement)
    found = groups(features.numpy(), doubt, done)
    return [group.tolist() for group in found[: collection.groups]]
