"""Classification of one request by one model: from images and class names to ranked predictions."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from core.clip.config import AdaptConfig, resolve_config
from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage
from core.clip.inference.classifier import scored
from core.clip.inference.request_rule import request_rule
from core.clip.inference.which_next import which_next
from core.clip.models.features import classifier_from_features
from core.serving.batching.batch import BatchItem
from core.serving.batching.batcher import Pending
from core.serving.calibrated import (
    NotCalibrated,
    calibrate,
    holds_for,
    prediction_sets,
    ranked,
    stored_calibration,
)
from core.serving.collection import SELF_TRAINED, Collection
from core.serving.decoding import fitted
from core.serving.engine import Engine
from core.serving.names import Prompts, resolve_class_names
from core.serving.pool.served_model import ServedModel
from core.serving.previews import JobPreview, Snapshot
from core.serving.text_cache import TEXT_CACHE_BYTES, ClassifierKey, RequestClassifier, TextCache
from core.serving.threads import single_threaded
from core.serving.types import (
    ClassifyRequest,
    ClassifyResult,
    NoReadableImage,
    Prediction,
)
from core.store.db.tables import Model
from core.tracing import span

Decoded = Tensor | BadImage
PROMPTS_PER_TURN = 16
"""Prompts that are tokenized at once, in about 0.2 s if each has 1,000 of the costliest characters."""


class Images:
    """The images of one request, decoded once for all models with the same preprocessing.

    Not thread-safe: a request runs its models one after the other.
    """

    def __init__(self, files: Sequence[bytes], limits: ImageLimits, decoders: Decoders, owner: str) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self.owner = owner
        self._decoded: dict[tuple[str, int], list[Decoded]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, preprocess: str, image_size: int, batch_size: int) -> Iterator[list[Decoded]]:
        """Yield batches of pixels (`Pixels.fit`), or the reason why an image can't be read.

        A batch is yielded when it is ready, while later images are still being decoded.
        """
        key = (preprocess, image_size)
        if key in self._decoded:
            images = iter(self._decoded[key])
        else:
            images = fitted(self._files, preprocess, image_size, self._limits, self._decoders, self.owner)
        done: list[Decoded] = []
        while batch := list(islice(images, batch_size)):
            done += batch
            yield batch
        self._decoded[key] = done


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory for one request, with the row or preview behind it."""

    served: ServedModel
    preview: Snapshot | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float


class Predictor:
    """Classification with caches of prompt features and classifiers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.texts = TextCache(TEXT_CACHE_BYTES)
        # Hugging Face tokenizers take one caller at a time. One with 20,000 prompts lets others in between.
        self._tokenizing = single_threaded(1, "tokenizer")

    def predict(
        self,
        images: Images | Collection,
        request: ClassifyRequest,
        model: LoadedModel,
        started: float,
        *,
        take_prompts: Callable[[int], None],
    ) -> ClassifyResult:
        """Classify images, or a collection by its features.

        Args:
            started: `time.perf_counter()` at the start of the request, for the total time.
            take_prompts: called with the number of prompts that are encoded; it may raise ServerBusy.

        Raises NoReadableImage, NotCalibrated, ServerBusy, WrongFeatures, and any error of the engine.
        """
        row, served = model.row, model.served
        fitted = stored_calibration(row, model.alpha) if isinstance(row, Model) else None
        valid = (
            isinstance(images, Images)
            and row is not None
            and fitted is not None
            and holds_for(
                fitted,
                row.classes,
                [c.name for c in request.class_names],
                own_prompts=any(c.prompts for c in request.class_names),
                templates=request.templates,
                balance=request.new_class_balance,
                shots=served.shots,
            )
        )
        calibration = fitted if valid else None
        if calibration is None and (request.reject or request.coverage is not None):
            raise NotCalibrated(model.row)
        key = self._key(request, model)
        make_classifier = partial(
            self.texts.classifier,
            key,
            lambda: self._make_classifier(key, model, take_prompts),
            wait_seconds=self._engine.wait_seconds,
        )
        decoding = time.perf_counter()
        results: list[list[Prediction] | BadImage | None] = []
        batcher, sent = self._engine.batcher, list[BatchItem]()
        if isinstance(images, Collection):
            encoding, features = decoding, images.features
            results += [None] * len(images)
            classifier = make_classifier()
        else:
            try:
                with (
                    span("classify batch", images=len(images)),
                    batcher.pending((served, "images")) as coming,
                ):
                    self._send(images, served, results, sent, coming)
                    encoding = time.perf_counter()
                    classifier = make_classifier()  # prompts and images are encoded concurrently
                    features = torch.cat([batcher.wait(part, self._engine.wait_seconds) for part in sent])
            finally:
                for part in sent:  # the model must stay in memory until then
                    batcher.end(part)
        names = classifier.names
        rule, texts = classifier.rule, classifier.text_features
        if model.preview is not None:
            rule = model.preview.preview.rule(texts, names.classes, request.new_class_balance)
        collection: dict[str, Any] = {}
        if isinstance(images, Collection):
            found = images.rule_or_reason(
                classifier, served, request.new_class_balance, preview=model.preview is not None
            )
            if isinstance(found, str):
                collection = {"method": "image_by_image", "reason": found}
            else:
                rule, collection = found, {"method": "self_training", "reason": SELF_TRAINED}
        temperature = None if fitted is None else fitted.temperature
        scores = scored(features, texts, rule, served.backbone.logit_scale / (temperature or 1.0))
        if isinstance(images, Collection):
            sent_with = images.sent.suggest, images.sent.labelled
            collection["suggested"] = which_next(scores.probabilities, features, *sent_with)
        sets: list[list[str]] = []
        in_distribution = scores.scores.new_empty(0)
        if calibration is not None:
            in_set, in_distribution = calibrate(
                calibration, scores, features, served.shots, names.classes, coverage=request.coverage or 0.0
            )
            sets = prediction_sets(scores, in_set, names.names)
        encoded = time.perf_counter()
        kinds = names.kinds
        predictions = iter(ranked(scores, names, kinds, request.top_k))
        return ClassifyResult(
            model=model.name,
            preview=model.preview is not None,
            preview_lacks=0 if model.preview is None else model.preview.missing,
            backbone=model.backbone,
            alpha=model.alpha,
            kinds=kinds,
            rule=scores.rule.kind,
            offsets=dict(zip(names.names, scores.rule.offsets.tolist(), strict=True)),
            results=[next(predictions) if problem is None else problem for problem in results],
            temperature=temperature,
            calibration=calibration,
            sets=sets,
            in_distribution_score=in_distribution.tolist(),
            rejected=[] if calibration is None else (in_distribution < calibration.threshold).tolist(),
            features=[base64.b64encode(row).decode() for row in features.numpy().astype("<f2")]
            if request.features
            else [],
            collection=collection,
            timing_ms={
                "decode": round(1000 * (encoding - decoding), 2),
                "encode": round(1000 * (encoded - encoding), 2),
                "total": round(1000 * (time.perf_counter() - started), 2),
            },
        )

    def _send(
        self,
        images: Images,
        served: ServedModel,
        problems: list[list[Prediction] | BadImage | None],
        sent: list[BatchItem],
        last_of: Pending,
    ) -> None:
        """Send images to the engine as they are decoded.

        Appends one element per image to `problems`: None, or the reason why it can't be read.

        Raises NoReadableImage.
        """
        last, batcher = None, self._engine.batcher
        most = self._engine.max_images(served)
        for batch in images.decoded(served.preprocess, served.backbone.image_size, most):
            problems += [None if isinstance(image, Tensor) else image for image in batch]
            if good := [image for image in batch if isinstance(image, Tensor)]:
                if last is not None:
                    sent.append(batcher.submit((served, "images"), last))
                last = torch.stack(good)
        if last is None:
            raise NoReadableImage([problem for problem in problems if isinstance(problem, BadImage)])
        sent.append(batcher.submit((served, "images"), last, last_of))

    def _key(self, request: ClassifyRequest, model: LoadedModel) -> ClassifierKey:
        templates = request.templates
        if templates is None:
            row = model.row
            templates = tuple(row.templates) if row else recipe(model.backbone).templates
        return model.served.key, model.name, request.class_names, templates, request.new_class_balance

    def _make_classifier(
        self,
        key: ClassifierKey,
        model: LoadedModel,
        take_prompts: Callable[[int], None],
    ) -> RequestClassifier:
        model_key, _, class_names, templates, balance = key
        row, served = model.row, model.served
        names = resolve_class_names(
            class_names, row.classes if row else (), templates, row.prompts if row else {}
        )

        def encode(missing: Sequence[Prompts]) -> Tensor:
            take_prompts(sum(map(len, missing)))
            return self.encode_prompts(served, missing)

        rows = self.texts.rows(model_key, names.prompts, encode)
        features = torch.stack([rows[prompts] for prompts in names.prompts])
        fitted_rule = request_rule(served.shots, features, names.classes, balance)
        return RequestClassifier(names, features, fitted_rule)

    def encode_prompts(self, served: ServedModel, prompts: Sequence[Prompts]) -> Tensor:
        """Return the classifier weights [C, D] of C classes."""
        sentences = list(dict.fromkeys(sentence for class_prompts in prompts for sentence in class_prompts))
        tokens: list[Tensor] = []
        for start in range(0, len(sentences), PROMPTS_PER_TURN):
            some = sentences[start : start + PROMPTS_PER_TURN]
            tokens.append(self._tokenizing.submit(served.backbone.tokenizer, some).result())
        features = self._engine.encode_text(served, torch.cat(tokens), wait_seconds=self._engine.wait_seconds)
        return classifier_from_features(features, sentences, prompts)


@lru_cache
def recipe(backbone: str) -> AdaptConfig:
    """Return the default configuration of a backbone."""
    return resolve_config(backbone=backbone)
