"""Classification of images with one model."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from api.serving.batching.batch import BatchItem
from api.serving.batching.batcher import Pending
from api.serving.calibrated import NotCalibrated, holds_for, prediction_sets, ranked
from api.serving.decoding import fitted
from api.serving.held_model import HeldModel
from api.serving.pool.served_model import ServedModel
from api.serving.service import Serving, Subject
from api.serving.texts import RequestClassifier
from api.serving.types import NoReadableImage
from clipcite.types.classify import Calibration, Classification, ClassKind, ClassName, ImageResult, Options
from clipcite.types.problems import Notice
from core.admission import Take
from core.clip.config import USUAL_SIDE
from core.clip.errors import BadImage
from core.clip.inference import pile
from core.clip.inference.calibration import FittedCalibration
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.classifier import Scores, scored
from core.clip.inference.labelled import Sorter
from core.clip.inference.request_rule import RequestRule
from core.clip.inference.untrained import unrelated
from core.errors import ExpectedError
from core.store.db.tables import Model

Decoded = Tensor | BadImage


class NothingToCompare(ExpectedError):
    """`something_else` without training images of a requested class."""

    code = "no_training_images"
    status = 422

    def __init__(self, *, has_images: bool) -> None:
        super().__init__(
            "something_else compares images with training images, but none of the class names was trained. "
            "Add a trained class."
            if has_images
            else "something_else compares images with training images, and this model has none. Use a "
            "trained model with an alpha above 0."
        )


class Images:
    """The images of one request. A second classification at another alpha does not decode them again.

    Not thread-safe.
    """

    def __init__(
        self, files: Sequence[bytes], serving: Serving, names: Sequence[str | None] | None = None
    ) -> None:
        self.names = names or [None] * len(files)
        self._files = files
        self._serving = serving
        self._decoded: dict[tuple[str, int], list[Decoded]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, model: ServedModel) -> Iterator[list[Decoded]]:
        """Yield batches of images: pixels (`Pixels.fit`), or the reason why an image can't be read.

        Each batch is yielded as soon as it is ready, while later images are still being decoded.
        """
        key = preprocess, size = model.preprocess, model.backbone.image_size
        limits, decoders = self._serving.limits, self._serving.decoding
        images = iter(self._decoded.get(key) or fitted(self._files, preprocess, size, limits, decoders))
        done: list[Decoded] = []
        while batch := list(islice(images, self._serving.engine.max_images(model))):
            done += batch
            yield batch
        self._decoded[key] = done


def classify(
    serving: Serving, images: Images, options: Options, model: Subject, *, take: Take
) -> Classification:
    """Score images against class names.

    Args:
        options: options with class names.
        model: from `look_up`.
        take: takes more from the budget `serving.images`, for prompts and for unusually large images. It
            raises an error if the client has gone.

    Raises:
        InvalidNames: a class name can't be used.
        ModelNotFound: the model was deleted after `look_up`.
        ModelUnavailable: the model's files are missing or damaged.
        NoReadableImage: none of the images can be read.
        NotCalibrated: `coverage` without a valid calibration.
        NothingToCompare: `something_else` with a model without training images.
        ServerBusy: other requests use the budget, or the features are not computed in time.
        UnknownBackbone, StillLoading, BackboneUnavailable, StorageUnavailable, BlobNotFound.
    """
    started = time.perf_counter()
    with serving.hold(model, options.alpha) as held:
        request = ModelRequest(serving, held, options, take)
        calibration = request.calibration()
        usual = len(images) * held.served.backbone.image_size**2 // USUAL_SIDE**2
        take(max(0, usual - len(images)))
        decoding = time.perf_counter()
        problems: list[BadImage | None] = []
        batcher, sent = serving.engine.batcher, list[BatchItem]()
        try:
            with batcher.pending((held.served, "images")) as coming:
                request.send(images, problems, sent, coming)
                encoding = time.perf_counter()
                request.encode()  # prompts and images are encoded concurrently
                parts = []
                for part in sent:
                    take(0)
                    parts.append(batcher.wait(part, serving.engine.wait_seconds))
                features = torch.cat(parts)
        finally:
            for part in sent:  # the model must stay in memory until all are computed
                batcher.end(part)
        rule = request.rule
        judgement = request.judgement(features) if options.something_else else None
        scores = scored(features, request.classifier.text_features, rule, held.logit_scale)
        before = request.as_before(sent, features)
        if before is not None:
            scores = scores.with_rows(*before)
        readable = iter(request.results(scores, calibration, judgement))
        results = [
            next(readable)
            if problem is None
            else ImageResult(file=None, error=Notice(code=problem.code, detail=problem.detail))
            for problem in problems
        ]
        for result, name in zip(results, images.names, strict=True):
            result.file = name
        ended = time.perf_counter()
        row = model if isinstance(model, Model) else None
        return Classification(
            model=held.name,
            reference=options.model,
            name=None if row is None else row.name,
            version=None if row is None else row.version,
            preview=held.preview is not None,
            backbone=held.backbone,
            alpha=held.alpha,
            rule=rule.kind,
            calibration=Calibration(
                calibrated=calibration is not None,
                temperature=None if held.calibration is None else held.calibration.temperature,
                held_out_images=None if calibration is None else calibration.images,
                likeness_limit=None if judgement is None else judgement.limit,
            ),
            class_names=request.kinds(rule),
            results=results,
            timing_ms={
                "decode": _ms(encoding - decoding),
                "encode": _ms(ended - encoding),
                "total": _ms(ended - started),
            },
            warnings=request.warnings(),
        )


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


@dataclass(frozen=True)
class ModelRequest:
    """What a request asks of a model that it holds in memory."""

    serving: Serving
    model: HeldModel
    options: Options
    """Options with class names."""
    take: Take
    """Takes more from the budget `serving.images`. It raises an error if the client has gone."""

    @cached_property
    def classifier(self) -> RequestClassifier:
        """The class names. Raises InvalidNames."""
        return self.serving.texts.classifier(self.model, self.options)

    def encode(self) -> None:
        """Compute the features of the class names, if they are missing. Raise ServerBusy."""
        self.serving.texts.encode(self.classifier, self.model, self.take)

    @cached_property
    def rule(self) -> RequestRule:
        """The rule without self-training, after `encode`."""
        if self.model.preview is None:
            return self.classifier.rule
        texts, classes = self.classifier.text_features, self.classifier.candidates.classes
        return self.model.preview.preview.rule(texts, classes, self.options.new_class_balance)

    def sorter(self) -> Sorter:
        """Return model and encoded class names, to sort many images together."""
        alone = None
        if self.model.served.shots is None:
            alone = "Without a trained model, each image is sorted by itself."
        return Sorter(
            self.classifier.candidates.names,
            self.classifier.text_features,
            self.classifier.candidates.classes,
            self.model.shots,
            self.model.served.backbone.logit_scale,
            self.options.new_class_balance,
            alone,
        )

    def calibration(self) -> FittedCalibration | None:
        """Return the calibration that is valid for the request, or None. Raise NotCalibrated if needed."""
        found, options = self.model.calibration, self.options
        if found is not None and not holds_for(
            found,
            self.model.classes,
            self.classifier.candidates.names,
            own_prompts=any(each.prompts for each in options.class_names or ()),
            templates=options.templates,
            balance=options.new_class_balance,
        ):
            found = None
        if found is None and options.coverage is not None:
            raise NotCalibrated(self.model.row)
        return found

    def send(
        self, images: Images, problems: list[BadImage | None], sent: list[BatchItem], last_of: Pending
    ) -> None:
        """Send images to the batcher as they are decoded.

        Append one element per image to `problems`: None, or the reason why it can't be read.

        Raises:
            NoReadableImage: none can be read.
        """
        last, batcher, queue = None, self.serving.engine.batcher, (self.model.served, "images")
        for batch in images.decoded(self.model.served):
            self.take(0)
            problems += [None if isinstance(image, Tensor) else image for image in batch]
            if good := [image for image in batch if isinstance(image, Tensor)]:
                if last is not None:
                    sent.append(batcher.submit(queue, last))
                last = torch.stack(good)
        if last is None:
            raise NoReadableImage([problem for problem in problems if problem is not None])
        sent.append(batcher.submit(queue, last, last_of))

    def judgement(self, features: Tensor) -> pile.Judgement:
        """Judge each image alone: is it like the training images? Raise NothingToCompare."""
        asked = np.array([c for c in self.classifier.candidates.classes if c != NEW_CLASS], np.int64)
        support = self.model.support
        if support is None or not len(asked):
            raise NothingToCompare(has_images=support is not None)
        return pile.alone(support, features.numpy(), asked)

    def as_before(self, sent: Sequence[BatchItem], features: Tensor) -> tuple[Tensor, Scores] | None:
        """Return the rows of the images that the model was not trained for, and their scores at α = 0.

        None without such images. Only images unlike the training images pass through the pre-trained network.

        Args:
            sent: all images, with the features [N, D].
        """
        foreign, row, options = self.model.served.foreign, self.model.row, self.options
        if foreign is None or row is None or self.rule.kind == "closed" or options.new_class_balance == 0:
            return None
        unlike = torch.from_numpy(foreign(features.numpy()))
        if not unlike.any():
            return None
        parts = zip(sent, unlike.split([len(item.rows) for item in sent]), strict=True)
        trained = options.model_copy(update={"class_names": [*map(ClassName, row.classes)]})
        engine = self.serving.engine
        with self.serving.hold(row, 0.0) as stock:
            asked, known = (ModelRequest(self.serving, stock, each, self.take) for each in (options, trained))
            again = engine.batcher.submit(
                (stock.served, "images"), torch.cat([item.rows[which] for item, which in parts])
            )
            try:
                asked.encode()
                known.encode()
                again_features = engine.batcher.wait(again, engine.wait_seconds)
            finally:
                engine.batcher.end(again)  # the model must stay in memory until all are computed
            scale = stock.served.backbone.logit_scale
        texts = asked.classifier.text_features
        kept = unrelated(texts, known.classifier.text_features)[(again_features @ texts.T).argmax(dim=1)]
        return unlike.nonzero()[kept, 0], scored(again_features[kept], texts, asked.classifier.rule, scale)

    def results(
        self, scores: Scores, calibration: FittedCalibration | None, judgement: pile.Judgement | None
    ) -> list[ImageResult]:
        """Return the result for each image. Every option that adds a field per image has its part here.

        Args:
            calibration: calibration that is valid for this request, or None.
            judgement: which images belong to none of the classes. None: not requested.
        """
        names, options = self.classifier.candidates.names, self.options
        images = [
            ImageResult(file=None, predictions=best)
            for best in ranked(scores, names, self.classifier.kinds, options.top_k)
        ]
        if calibration is not None and options.coverage is not None:
            sets = prediction_sets(calibration, scores, names, options.coverage)
            for image, chosen in zip(images, sets, strict=True):
                image.prediction_set = chosen
        if judgement is not None:
            # Without training images there is nothing to compare with, so images of such a name are not
            # judged.
            new = [c == NEW_CLASS for c in self.classifier.candidates.classes]
            best = scores.scores.argmax(dim=1).tolist()
            judged = zip(images, judgement.score.tolist(), judgement.known.tolist(), best, strict=True)
            for image, likeness, known, column in judged:
                image.likeness = likeness
                image.something_else = not known and not new[column]
        return images

    def kinds(self, rule: RequestRule) -> list[ClassKind]:
        """Return the class names, with kind and offset."""
        rows = zip(
            self.classifier.candidates.names, self.classifier.kinds, rule.offsets.tolist(), strict=True
        )
        return [ClassKind(name=name, kind=kind, offset=offset) for name, kind, offset in rows]

    def warnings(self) -> list[Notice]:
        """Return what the person should know about the class names, `alpha` and the preview."""
        model, warnings = self.model, [Notice(**warning) for warning in self.classifier.warnings]
        if self.options.alpha and not isinstance(model.row, Model):
            which = "The stock model has" if model.row is None else "An instant preview has"
            warnings.append(Notice(code="alpha_unused", detail=f"{which} no alpha. The value was ignored."))
        if model.preview is not None and model.preview.missing:
            detail = (
                f"The preview is still processing {model.preview.missing} of the job's images. Send the "
                "request again for a preview of all images."
            )
            warnings.append(Notice(code="preview_unfinished", detail=detail))
        return warnings
