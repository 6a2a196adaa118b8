"""One answer of one model: images and class names go in, ranked names come out."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from core.clip.config import AdaptConfig, resolve_config
from core.clip.data.images import ImageLimits
from core.clip.errors import BadImage
from core.clip.inference.class_offsets import class_offsets
from core.clip.inference.classifier import Scores, scored
from core.clip.models.backbone import load_tokenizer
from core.clip.models.features import PROMPT_BATCH_SIZE, classifier_from_features
from core.serving.calibrated import NotCalibrated, calibration_for, judge
from core.serving.decoding import Decoders, Decoding, fitted
from core.serving.engine import Engine
from core.serving.limiter import ServerBusy
from core.serving.previews import JobPreview, Snapshot
from core.serving.text_cache import (
    Head,
    HeadKey,
    LruCache,
    Names,
    Prompts,
    TextCache,
    TextCounts,
    resolve_class_names,
)
from core.serving.threads import single_threaded
from core.serving.types import (
    ClassifyRequest,
    ClassifyResult,
    Handle,
    NoReadableImage,
    Prediction,
)
from core.settings import Settings
from core.store.db.tables import Model

Decoded = Tensor | BadImage


class Images:
    """The images of one request, decoded once for all models that see them in the same way. `files` as they
    came. Not for several threads: a request asks one model after another."""

    def __init__(self, files: Sequence[bytes], limits: ImageLimits, decoders: Decoders, owner: str) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self._share = (owner, "classify")
        self._decoding: dict[tuple[str, int], list[Callable[[], Decoded]]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, preprocess: str, image_size: int, at_once: int) -> Iterator[list[Decoded]]:
        """For each file what the model takes (`Pixels.fit`), or why it can't be read: so many at a time, as
        soon as they are ready, while the next ones are still being decoded."""
        key = (preprocess, image_size)
        if key not in self._decoding:
            self._decoding[key] = self._begin(*key)
        decoding = self._decoding[key]
        for start in range(0, len(decoding), at_once):
            yield [result() for result in decoding[start : start + at_once]]

    def _begin(self, preprocess: str, image_size: int) -> list[Callable[[], Decoded]]:
        def fit(file: bytes, decoding: Decoding[Tensor]) -> Tensor:
            return fitted(file, preprocess, image_size, self._limits, decoding.open_image)

        if len(self._files) == 1:
            here = partial(self._decoders.open_here, self._share)
            alone = _or_problem(lambda: fitted(self._files[0], preprocess, image_size, self._limits, here))
            return [lambda: alone]
        works = [partial(fit, file) for file in self._files]
        decodings = self._decoders.submit(self._share, self, works)
        return [partial(_or_problem, decoding.result) for decoding in decodings]


def _or_problem(decode: Callable[[], Tensor]) -> Decoded:
    try:
        return decode()
    except BadImage as problem:
        return problem


@dataclass(frozen=True)
class LoadedModel:
    """What answers, in memory for as long as it does."""

    handle: Handle
    preview: Snapshot | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float


class Predictor:
    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._cache = settings.cache
        # Half of the budget each: a head repeats the rows of its classes.
        self._texts = TextCache(settings.text_cache_bytes // 2)
        self._heads: LruCache[HeadKey, Head] = LruCache(settings.text_cache_bytes // 2)
        self._tokenizing = threading.Lock()  # the tokenizers of Hugging Face take one caller at a time
        # As many as there may be images in flight, so that none of them waits for a thread.
        self._senders = single_threaded(settings.max_waiting_images, "sender")

    def text_counts(self) -> TextCounts:
        rows, heads = self._texts.kept, self._heads
        return TextCounts(
            rows=len(rows),
            heads=len(heads),
            bytes=rows.bytes + heads.bytes,
            hits=heads.hits + self._texts.hits,
            misses=self._texts.misses,
            encoded=self._texts.encoded,
            evicted=rows.evicted + heads.evicted,
        )

    def forget(self, where: Callable[[str], bool]) -> None:
        """Drop the prompts of models whose key fits."""
        self._texts.kept.forget(lambda key: where(key[0]))
        self._heads.forget(lambda key: where(key[0]))

    def close(self) -> None:
        self._senders.shutdown(wait=False, cancel_futures=True)

    def answer(
        self, images: Images, question: ClassifyRequest, answering: LoadedModel, started: float
    ) -> ClassifyResult:
        row, handle = answering.row, answering.handle
        known = calibration_for(
            row if isinstance(row, Model) else None,
            [c.name for c in question.class_names],
            own_prompts=any(c.prompts for c in question.class_names),
            alpha=answering.alpha,
            templates=question.templates,
            balance=question.new_class_balance,
        )
        if known is None and (question.reject or question.coverage is not None):
            raise NotCalibrated
        decoding = time.perf_counter()
        results: list[list[Prediction] | BadImage | None] = []
        sent: list[Future[Tensor]] = []
        try:
            with self._engine.expect_images(handle):
                last = self._send(images, handle, results, sent)
                encoding = time.perf_counter()
                key = self._key(question, answering)
                head = self._heads.get(key)
                if head is None:  # prompts and images are encoded beside each other
                    sent.append(self._send_off(handle, last))
                    head = self._make_head(key, answering)
                    features = torch.cat([part.result() for part in sent])
                else:
                    rest = self._engine.encode_images(handle, last)
                    features = torch.cat([*(part.result() for part in sent), rest]) if sent else rest
        finally:
            wait(sent)  # the model must stay until they are through
        names = head.names
        scores = _scores(answering, features, head, question.new_class_balance)
        judged = None
        if known is not None:
            judged = judge(
                known,
                scores,
                features,
                handle.shots,
                names.classes,
                logit_scale=handle.logit_scale,
                coverage=question.coverage or 0.0,
            )
            scores = judged.scores
        encoded = time.perf_counter()

        kinds = names.kinds
        ranked = iter(_ranked(scores, names, kinds, question.top_k))
        return ClassifyResult(
            model=answering.name,
            preview=answering.preview is not None,
            preview_lacks=_lacking(answering.preview),
            backbone=answering.backbone,
            alpha=answering.alpha,
            kinds=kinds,
            offsets=dict(zip(names.names, scores.offsets.tolist(), strict=True)),
            results=[next(ranked) if problem is None else problem for problem in results],
            calibration=known,
            sets=[] if judged is None else judged.names(names.names),
            in_distribution_score=[] if judged is None else judged.in_distribution_score.tolist(),
            rejected=[] if judged is None else judged.rejected.tolist(),
            timing_ms={
                "decode": round(1000 * (encoding - decoding), 2),
                "encode": round(1000 * (encoded - encoding), 2),
                "total": round(1000 * (time.perf_counter() - started), 2),
            },
        )

    def _send(
        self,
        images: Images,
        handle: Handle,
        problems: list[list[Prediction] | BadImage | None],
        sent: list[Future[Tensor]],
    ) -> Tensor:
        """Send images to the engine as they are decoded, and return the last rows, which are not yet sent.
        Adds to `problems` one for each image, None for a good one. Raises NoReadableImage."""
        last = None
        for some in images.decoded(handle.preprocess, handle.image_size, handle.max_images):
            problems += [None if isinstance(one, Tensor) else one for one in some]
            if good := [one for one in some if isinstance(one, Tensor)]:
                if last is not None:
                    sent.append(self._send_off(handle, last, more=True))
                last = torch.stack(good)
        if last is None:
            raise NoReadableImage([problem for problem in problems if isinstance(problem, BadImage)])
        return last

    def _send_off(self, handle: Handle, images: Tensor, *, more: bool = False) -> Future[Tensor]:
        try:
            return self._senders.submit(partial(self._engine.encode_images, handle, images, more=more))
        except RuntimeError:  # closed
            raise ServerBusy("The service is stopping. Ask again in a few seconds.") from None

    def _key(self, question: ClassifyRequest, answering: LoadedModel) -> HeadKey:
        templates = question.templates
        if templates is None:
            row = answering.row
            templates = tuple(row.templates) if row else recipe(answering.backbone).templates
        balance = question.new_class_balance
        return answering.handle.key, answering.name, question.class_names, templates, balance

    def _make_head(self, key: HeadKey, answering: LoadedModel) -> Head:
        model, _, class_names, templates, balance = key
        row, handle = answering.row, answering.handle
        names = resolve_class_names(
            class_names, row.classes if row else (), templates, row.prompts if row else {}
        )
        rows = self._texts.rows(model, names.prompts, lambda some: self._encode(handle, some))
        weights = torch.stack([rows[one] for one in names.prompts])
        if handle.shots is None:
            offsets = weights.new_zeros(len(weights))
        else:
            offsets = class_offsets(*handle.shots, weights, names.classes, balance)
        head = Head(names, weights, offsets)
        return self._heads.put(key, head, head.bytes)

    def _encode(self, handle: Handle, prompts: Sequence[Prompts]) -> Tensor:
        """[C, D]."""
        sentences = list(dict.fromkeys(sentence for of_class in prompts for sentence in of_class))
        tokenize = load_tokenizer(handle.backbone, cache=self._cache)
        tokens: list[Tensor] = []
        for start in range(0, len(sentences), PROMPT_BATCH_SIZE):
            with self._tokenizing:
                tokens.append(tokenize(sentences[start : start + PROMPT_BATCH_SIZE]))
        return classifier_from_features(
            self._engine.encode_text(handle, torch.cat(tokens)), sentences, prompts
        )


@lru_cache
def recipe(backbone: str) -> AdaptConfig:
    return resolve_config(backbone=backbone)


def _lacking(ready: Snapshot | None) -> int:
    return 0 if ready is None else ready.images - len(ready.preview.labels)


def _scores(answering: LoadedModel, features: Tensor, head: Head, balance: float) -> Scores:
    if answering.preview is not None:
        similarities, offsets = answering.preview.preview.cosines(
            features, head.weights, head.names.classes, balance
        )
    else:
        similarities, offsets = features @ head.weights.T, head.offsets
    return scored(similarities, offsets, answering.handle.logit_scale)


def _ranked(
    scores: Scores, names: Names, kinds: Mapping[str, str], top_k: int | None
) -> Iterator[list[Prediction]]:
    """Of each image the best names, best first."""
    count = len(names.names)
    top = scores.probabilities.topk(min(top_k or count, count), dim=-1)
    best = scores.similarities.gather(1, top.indices)
    for row in zip(top.values.tolist(), top.indices.tolist(), best.tolist(), strict=True):
        yield [
            Prediction(names.names[c], kinds[names.names[c]], probability, similarity)
            for probability, c, similarity in zip(*row, strict=True)
        ]
