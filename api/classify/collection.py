"""Classification of a collection by the features and labels of its images."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from api.classify.scoring import NothingToCompare, result_of, rule_of, score
from api.serving.service import Serving, Subject
from api.serving.texts import HeldModel, RequestClassifier
from api.serving.types import ImageScores, Result
from clipcite.types.classify import Options
from clipcite.types.predictions import Calibration
from core.admission import Take
from core.clip.inference import pile
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import RequestRule, adapted_rule
from core.clip.inference.self_training import self_trained
from core.clip.inference.which_next import which_next
from core.clip.prompts import same_class
from core.errors import ExpectedError

MIN_CLASS_SHARE = 0.5
"""Minimum number of images predicted for a class, as a fraction of the mean per class name.

Self-training loses accuracy if a class has no images (benchmarks/pages/pile.md).
"""
NEW_CLASS_IMAGES = 3
"""Number of labels of a new name that are suggested before others."""
COLLECTION_COPIES, SCORE_COPIES = 5, 2
"""Number of copies of a collection's features and scores that are in memory at once, in float32."""
SELF_TRAINED = "The more certain images help to sort the others."


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


@dataclass(frozen=True)
class Shots:
    """Training images of a request's model, and the labelled images of the collection."""

    features: Tensor
    """[S, D], training images first."""
    labels: Tensor
    """[S], classes."""
    trained: int
    """Number of training images."""
    none: Tensor
    """[M, D], images that a person marked as none of the classes."""
    classes: list[int]
    """Class per name. A new name has its own class if an image is labelled with it, else NEW_CLASS."""

    def rule(self, model: HeldModel, text_features: Tensor, balance: float) -> RequestRule:
        """Return the rule of the request. Labels count as training images; nothing is trained."""
        if model.served.shots is None:
            stock = PrototypeClassifier(self.features, self.labels)
            return stock.rule(text_features, self.classes, balance)
        scale, shots = model.served.backbone.logit_scale, (self.features, self.labels)
        return adapted_rule(shots, text_features, self.classes, scale, balance)

    def missing(self) -> list[int]:
        """Return the number of images that each new name lacks for a training beside the trained classes."""
        if not self.trained:
            return []
        images = self.labels[:, None] == torch.tensor(self.classes)
        is_new = ~images[: self.trained].any(dim=0)
        return (is_new * (NEW_CLASS_IMAGES - images.sum(dim=0)).clamp(min=0)).tolist()

    def support(self) -> pile.Support:
        """Return the images of the requested classes in the format of `pile`."""
        asked = torch.isin(self.labels, torch.tensor(self.classes))
        labels = torch.cat([self.labels[asked], torch.full((len(self.none),), pile.NONE)])
        features = torch.cat([self.features[asked], self.none])
        # If the model has no training images, the labelled images alone set the limit.
        trained = int(asked[: self.trained].sum()) or None
        return pile.Support.of(features.numpy(), labels.numpy(), trained)


def shots_of(model: HeldModel, classifier: RequestClassifier, collection: Collection, rows: Tensor) -> Shots:
    """Return the training images of a model, and the labelled ones among the images [N, D] of a collection.

    Raises:
        WrongLabels: a label is not a class name of the request.
    """
    features, labels = model.shots or (rows[:0], torch.empty(0, dtype=torch.long))
    column = {same_class(name): i for i, name in enumerate(classifier.names)}
    given = {
        at: None if name is None else column.get(same_class(name), -1)
        for at, name in collection.labels.items()
    }
    if unknown := [at for at, label in given.items() if label == -1]:
        raise WrongLabels(
            f"{collection.labels[unknown[0]]!r} in `labels` is not in `class_names`. Add it there."
        )
    classes = list(classifier.classes)
    free = 1 + max([NEW_CLASS, *classes, *labels.tolist()])
    for label in dict.fromkeys(label for label in given.values() if label is not None):
        if classes[label] == NEW_CLASS:
            classes[label], free = free, free + 1
    labelled = [at for at, label in given.items() if label is not None]
    added = torch.tensor([classes[given[at] or 0] for at in labelled], dtype=torch.long)
    none = [at for at, label in given.items() if label is None]
    return Shots(
        torch.cat([features, rows[labelled]]), torch.cat([labels, added]), len(features), rows[none], classes
    )


def check_features(features: Tensor, width: int) -> None:
    """Raise WrongFeatures unless features [N, D] have this width."""
    if features.shape[1] != width:
        raise WrongFeatures(
            f"The features have {features.shape[1]} numbers each, but this model needs {width}. Send the "
            "`features` that POST /classify returned for the same model and alpha."
        )


def self_training_or_reason(
    features: Tensor,
    classifier: RequestClassifier,
    model: HeldModel,
    shots: Shots,
    rule: RequestRule,
    balance: float,
) -> RequestRule | str:
    """Return the rule after self-training, or the reason why each image is classified alone.

    Args:
        features: normalised features [N, D] of the images that may belong to the classes, without labelled
            ones: these are shots already.
        rule: rule without self-training.
    """
    names, classes, served = classifier.names, shots.classes, model.served
    if model.preview is not None:
        return "The model is not trained yet. Its instant preview classifies each image alone."
    if served.shots is None:
        return "The pre-trained model classifies each image alone."
    if NEW_CLASS in classes:
        return f"The model was not trained on {names[classes.index(NEW_CLASS)]!r}."
    if len(names) == 1:
        return "Only one class name was sent."
    if rule.among_trained is None:
        return "The scores use no training images: new_class_balance is 0, or a class has none."
    counts = rule.scores(features).argmax(dim=1).bincount(minlength=len(names))
    counts += (shots.labels[shots.trained :, None] == torch.tensor(classes)).sum(dim=0)
    if counts.min() < max(1, MIN_CLASS_SHARE * int(counts.sum()) / len(names)):
        fewest = int(counts.min())
        few = f"Only {fewest} image{'s look' if fewest > 1 else ' looks'}" if fewest else "No image looks"
        return (
            f"{few} like {names[int(counts.argmin())]!r}, so each image is sorted on its own. Images help to "
            "sort each other if every class has about equally many."
        )
    scale = served.backbone.logit_scale
    own = shots.features, shots.labels
    return self_trained(own, classifier.text_features, classes, features, scale, balance)


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
        shots = shots_of(held, classifier, collection, features)
        judgement, known = None, torch.ones(count, dtype=torch.bool)
        if options.reject or (collection.groups and collection.labels):
            support = shots.support()
            if not len(support.classes) and options.reject:
                raise NothingToCompare(has_images=len(shots.labels) > 0)
            judgement = pile.something_else(support, features.numpy())
        balance = options.new_class_balance
        rule = rule_of(held, classifier, options)  # cached with the class names
        if len(shots.labels) > shots.trained:
            rule = shots.rule(held, classifier.text_features, balance)
        if judgement is not None and options.reject:
            best = rule.scores(features).argmax(dim=1)
            new = torch.tensor([c == NEW_CLASS for c in shots.classes])[best]
            known = torch.from_numpy(judgement.known) | new
        free = known.clone()
        free[torch.tensor(list(collection.labels), dtype=torch.long)] = False
        trained = self_training_or_reason(features[free], classifier, held, shots, rule, balance)
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
    found = pile.groups(features.numpy(), doubt, done)
    return [group.tolist() for group in found[: collection.groups]]
