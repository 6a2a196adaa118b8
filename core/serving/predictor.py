"""One answer of one model: pictures and names go in, ranked names come out."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import BadImage
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.classifier import Scores, scored
from core.clip.models.features import classifier_from_features
from core.clip.prompts import all_class_texts, class_indices
from core.serving.batching.batch import BatchItem
from core.serving.batching.batcher import Batcher
from core.serving.calibrated import NotCalibrated, confidence_for, judge
from core.serving.images import Pictures
from core.serving.lru import LruCache
from core.serving.pool.served_model import ServedModel
from core.serving.previews import JobPreview, Snapshot
from core.serving.text_cache import A_CLASS, Head, TextCache, Texts, texts_bytes
from core.serving.types import ClassifyRequest, ClassifyResult, ClassName, NoReadablePicture, Prediction
from core.store.db.tables import Model


@dataclass(frozen=True)
class Names:
    names: list[str]
    classes: tuple[int, ...]
    """For each name its trained class, or `balance.NEW_CLASS`."""
    texts: tuple[Texts, ...]

    @property
    def kinds(self) -> dict[str, str]:
        return {
            name: "new" if c == NEW_CLASS else "trained"
            for name, c in zip(self.names, self.classes, strict=True)
        }


def resolve_class_names(
    asked: Sequence[ClassName],
    trained: Sequence[str],
    templates: Sequence[str],
    own_texts: Mapping[str, Sequence[str]],
) -> Names:
    """Texts are the request's; else the model's own for its names; else the templates."""
    names = [one.name for one in asked]
    of_names = all_class_texts(names, templates, own_texts)
    texts = tuple(one.texts or implied for one, implied in zip(asked, of_names, strict=True))
    return Names(names, tuple(class_indices(names, trained)), texts)


class ResolvedClassNames:
    """The last lists of names, so that a thousand of them are looked at once.

    Lists with sentences of their own are not kept: each request has a new tuple of them.
    """

    def __init__(self, budget_bytes: int = 16_000_000) -> None:
        # Keyed by id(). The reference to `asked` in the value prevents reuse of the id.
        self.kept: LruCache[tuple[int, str, object], tuple[Sequence[ClassName], Names]] = LruCache(
            budget_bytes
        )

    def get(
        self,
        asked: tuple[ClassName, ...],
        subject: str,
        templates: tuple[str, ...],
        make: Callable[[], Names],
    ) -> Names:
        """As `subject`, which never changes, understands the very tuple `asked`."""
        key = (id(asked), subject, templates)
        known = self.kept.get(key)
        if known is not None:
            return known[1]
        names = make()
        if any(one.texts is not None for one in asked):
            return names
        # The names themselves are those of `asked`, whose memory is counted here too.
        size = texts_bytes(templates) + sum(
            A_CLASS + sys.getsizeof(name) + texts_bytes(texts)
            for name, texts in zip(names.names, names.texts, strict=True)
        )
        return self.kept.put(key, (asked, names), size)[1]


@dataclass(frozen=True)
class LoadedModel:
    """What answers, in memory for as long as it does."""

    network: ServedModel
    preview: Snapshot | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float


class Predictor:
    def __init__(self, batcher: Batcher, texts: TextCache, wait_seconds: Callable[[], float]) -> None:
        """`wait_seconds`: for its turn, before a request is told that others are served."""
        self._batcher = batcher
        self._texts = texts
        self._wait_seconds = wait_seconds
        self._understood = ResolvedClassNames()
        self._tokenizing = threading.Lock()  # the tokenizers of Hugging Face take one caller at a time

    def answer(
        self, pictures: Pictures, question: ClassifyRequest, answering: LoadedModel, started: float
    ) -> ClassifyResult:
        row, network = answering.row, answering.network
        known = confidence_for(
            row if isinstance(row, Model) else None,
            [c.name for c in question.class_names],
            own_texts=any(c.texts for c in question.class_names),
            alpha=answering.alpha,
            templates=question.templates,
            balance=question.new_names_balance,
        )
        if known is None and (question.reject or question.coverage is not None):
            raise NotCalibrated
        names = self._names(question, answering)

        decoding = time.perf_counter()
        results: list[list[Prediction] | BadImage | None] = []
        works: list[BatchItem] = []
        try:
            self._send(pictures, network, results, works)
            encoding = time.perf_counter()
            head = self._texts.head(network.key, names.texts, lambda some: self._encode(network, some))
            features = torch.cat([self._wait(work) for work in works])
        finally:
            for work in works:
                self._batcher.withdraw(work)  # those that nobody waits for any more
        scores = _scores(answering, features, head, names, question.new_names_balance)
        judged = None
        if known is not None:
            judged = judge(
                known,
                scores,
                features,
                network.shots,
                names.classes,
                logit_scale=network.backbone.logit_scale,
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
            confidence=known,
            sets=[] if judged is None else judged.names(names.names),
            likeness=[] if judged is None else judged.likeness.tolist(),
            rejected=[] if judged is None else judged.rejected.tolist(),
            timing_ms={
                "decode": round(1000 * (encoding - decoding), 2),
                "encode": round(1000 * (encoded - encoding), 2),
                "total": round(1000 * (time.perf_counter() - started), 2),
            },
        )

    def _names(self, question: ClassifyRequest, answering: LoadedModel) -> Names:
        row = answering.row
        templates = question.templates
        if templates is None:
            templates = tuple(row.templates) if row else recipe(answering.backbone).templates
        return self._understood.get(
            question.class_names,
            answering.name,
            templates,
            lambda: resolve_class_names(
                question.class_names, row.classes if row else (), templates, row.texts if row else {}
            ),
        )

    def _send(
        self,
        pictures: Pictures,
        network: ServedModel,
        problems: list[list[Prediction] | BadImage | None],
        works: list[BatchItem],
    ) -> None:
        """Off to the network, as they are decoded. Adds to `problems` one for each picture, None for a good
        one. Raises NoReadablePicture."""
        lane, encode = network.images
        with self._batcher.pending(lane) as arrival:
            for some in pictures.decoded(network.backbone, self._batcher.largest["images"]):
                problems += [None if isinstance(one, Tensor) else one for one in some]
                if good := [one for one in some if isinstance(one, Tensor)]:
                    last = arrival if len(problems) == len(pictures) else None
                    works.append(self._batcher.submit(lane, encode, torch.stack(good), last))
        if not works:
            raise NoReadablePicture([problem for problem in problems if isinstance(problem, BadImage)])

    def _encode(self, network: ServedModel, texts: Sequence[Texts]) -> Tensor:
        """[C, D], a batch of sentences at a time, so that other networks have their turns in between."""
        sentences = list(dict.fromkeys(sentence for of_class in texts for sentence in of_class))
        lane, encode = network.texts
        works: list[BatchItem] = []
        try:
            at_once = self._batcher.largest["texts"]
            for start in range(0, len(sentences), at_once):
                with self._tokenizing:
                    tokens = network.backbone.tokenize(sentences[start : start + at_once])
                works.append(self._batcher.submit(lane, encode, tokens))
            return classifier_from_features(torch.cat([self._wait(work) for work in works]), sentences, texts)
        finally:
            for work in works:
                self._batcher.withdraw(work)

    def _wait(self, work: BatchItem) -> Tensor:
        return self._batcher.wait(work, self._wait_seconds())


@lru_cache
def recipe(backbone: str) -> AdaptConfig:
    return resolve_config(backbone=backbone)


def _lacking(ready: Snapshot | None) -> int:
    return 0 if ready is None else ready.pictures - len(ready.preview.labels)


def _scores(answering: LoadedModel, features: Tensor, head: Head, names: Names, balance: float) -> Scores:
    network = answering.network
    if answering.preview is not None:
        similarities, offsets = answering.preview.preview.cosines(
            features, head.features, names.classes, balance
        )
    else:
        similarities = features @ head.features.T
        offsets = head.beside(
            (names.classes, balance), lambda of_names: network.offsets(of_names, names.classes, balance)
        )
    return scored(similarities, offsets, network.backbone.logit_scale)


def _ranked(
    scores: Scores, names: Names, kinds: Mapping[str, str], top_k: int | None
) -> Iterator[list[Prediction]]:
    """Of each picture the best names, best first."""
    count = len(names.names)
    top = scores.probabilities.topk(min(top_k or count, count), dim=-1)
    best = scores.similarities.gather(1, top.indices)
    for row in zip(top.values.tolist(), top.indices.tolist(), best.tolist(), strict=True):
        yield [
            Prediction(names.names[c], kinds[names.names[c]], probability, similarity)
            for probability, c, similarity in zip(*row, strict=True)
        ]
