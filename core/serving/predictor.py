"""One answer of one model: pictures and names go in, ranked names come out."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import BadPicture
from core.clip.inference.classifier import Scores, scored
from core.clip.models.features import head_of
from core.serving.batching.batcher import Batcher, Work
from core.serving.calibrated import NotCalibrated, confidence_for, judge
from core.serving.images import Pictures
from core.serving.names import Names, Understood, understood
from core.serving.pool.served_model import Network
from core.serving.previews import JobPreview, Ready
from core.serving.text_cache import Head, TextCache, Texts
from core.serving.types import Answer, NoReadablePicture, Prediction, Question
from core.store.db.tables import Model


@dataclass(frozen=True)
class Answering:
    """What answers, in memory for as long as it does."""

    network: Network
    preview: Ready | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float


class Answerer:
    def __init__(self, batcher: Batcher, texts: TextCache, wait_seconds: Callable[[], float]) -> None:
        """`wait_seconds`: for its turn, before a request is told that others are served."""
        self._batcher = batcher
        self._texts = texts
        self._wait_seconds = wait_seconds
        self._understood = Understood()
        self._tokenizing = threading.Lock()  # the tokenizers of Hugging Face take one caller at a time

    def answer(self, pictures: Pictures, question: Question, answering: Answering, started: float) -> Answer:
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
        results: list[list[Prediction] | BadPicture | None] = []
        works: list[Work] = []
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
        return Answer(
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

    def _names(self, question: Question, answering: Answering) -> Names:
        row = answering.row
        templates = question.templates
        if templates is None:
            templates = tuple(row.templates) if row else recipe(answering.backbone).templates
        return self._understood.get(
            question.class_names,
            answering.name,
            templates,
            lambda: understood(
                question.class_names, row.classes if row else (), templates, row.texts if row else {}
            ),
        )

    def _send(
        self,
        pictures: Pictures,
        network: Network,
        problems: list[list[Prediction] | BadPicture | None],
        works: list[Work],
    ) -> None:
        """Off to the network, as they are decoded. Adds to `problems` one for each picture, None for a good
        one. Raises NoReadablePicture."""
        lane, encode = network.images
        with self._batcher.coming(lane) as arrival:
            for some in pictures.decoded(network.backbone, self._batcher.largest["images"]):
                problems += [None if isinstance(one, Tensor) else one for one in some]
                if good := [one for one in some if isinstance(one, Tensor)]:
                    last = arrival if len(problems) == len(pictures) else None
                    works.append(self._batcher.submit(lane, encode, torch.stack(good), last))
        if not works:
            raise NoReadablePicture([problem for problem in problems if isinstance(problem, BadPicture)])

    def _encode(self, network: Network, texts: Sequence[Texts]) -> Tensor:
        """[C, D], a batch of sentences at a time, so that other networks have their turns in between."""
        sentences = list(dict.fromkeys(sentence for of_class in texts for sentence in of_class))
        lane, encode = network.texts
        works: list[Work] = []
        try:
            at_once = self._batcher.largest["texts"]
            for start in range(0, len(sentences), at_once):
                with self._tokenizing:
                    tokens = network.backbone.tokenize(sentences[start : start + at_once])
                works.append(self._batcher.submit(lane, encode, tokens))
            return head_of(torch.cat([self._wait(work) for work in works]), sentences, texts)
        finally:
            for work in works:
                self._batcher.withdraw(work)

    def _wait(self, work: Work) -> Tensor:
        return self._batcher.wait(work, self._wait_seconds())


@lru_cache
def recipe(backbone: str) -> AdaptConfig:
    return resolve_config(backbone=backbone)


def _lacking(ready: Ready | None) -> int:
    return 0 if ready is None else ready.pictures - len(ready.preview.labels)


def _scores(answering: Answering, features: Tensor, head: Head, names: Names, balance: float) -> Scores:
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
