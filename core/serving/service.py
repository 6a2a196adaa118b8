"""Classification with any model at any α: what POST /classify answers."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.classifier import Scores, scored
from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import BadPicture, ClipCiteError
from core.clip.images import PictureLimits
from core.clip.weights import Weights
from core.clip.zero_shot import PICTURES_AT_ONCE, PICTURES_AT_ONCE_ON_CPU, head_of
from core.serving.answer import Answer, NoReadablePicture, Prediction, Question
from core.serving.batches import Batcher, Work
from core.serving.cache import StillLoading
from core.serving.confident import NotCalibrated, confidence_for, judge
from core.serving.gate import Gate
from core.serving.names import Names, understood
from core.serving.network import Network
from core.serving.networks import Networks
from core.serving.pictures import Pictures
from core.serving.pins import Pins
from core.serving.preview import JobPreview, Previews, Ready
from core.serving.references import Subject
from core.serving.texts import Head, TextCache, Texts
from core.serving.threads import single_threaded
from core.settings import Settings
from core.store.blobs import Blobs
from core.store.names import STOCK
from core.store.session import Database
from core.store.tables import Model

LEAST_DECODERS = 2
LARGEST = {
    "cpu": {"images": PICTURES_AT_ONCE_ON_CPU, "texts": 32},
    "cuda": {"images": PICTURES_AT_ONCE, "texts": 256},
}
"""Rows of a batch. More texts would keep others waiting on a CPU."""
WARM_UP_AGAIN_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Answering:
    """What answers, in memory for as long as it does."""

    network: Network
    preview: Ready | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float


class Serving:
    """Loads networks when they are first asked for and keeps the recently used ones."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.networks = Networks(settings, database, blobs)
        self.texts = TextCache(settings.text_cache_bytes)
        self.device = device_type(settings.device)
        self.decoders = max(LEAST_DECODERS, torch.get_num_threads())
        self.batcher = Batcher(LARGEST[self.device])
        self.gate = Gate(settings.max_waiting_pictures, self.batcher.seconds_to_wait)
        self.previews = Previews(settings, database, blobs, self.networks, self.batcher)
        self.requests = single_threaded(settings.max_waiting_pictures, "request")
        """For those whom the gate let in: they wait for the networks, not for each other's threads."""
        self._decoders = single_threaded(self.decoders, "decoder")
        self._pins = Pins(settings.pinned_models, self.networks, database)
        self._tokenizing = threading.Lock()  # the tokenizers of Hugging Face take one caller at a time
        self._default_size = _recipe(settings.backbone).image_size
        self._resident = ExitStack()
        self._warm_up_error: ClipCiteError | None = None
        self._closed = threading.Event()

    def warm_up(self) -> None:
        """Load the default backbone, for good, so that the first request need not wait for it; then the
        pinned models, as long as the service is open if there are any. Tries until it works or the service
        closes: the operator may yet bring the files, or the hub come back."""
        while not self._closed.is_set():
            try:
                stock = self.networks.stock(self.settings.backbone, self._default_size, wait_seconds=None)
                self._resident.enter_context(stock)
                break
            except ClipCiteError as error:
                logger.warning("The default backbone is not there: %s", error)
                self._warm_up_error = error
            self._closed.wait(WARM_UP_AGAIN_SECONDS)
        self._pins.follow(until=self._closed)

    def prepare_preview(self, job: JobPreview) -> None:
        """For a job that has just come in, if its backbone is in memory anyway."""
        usual = (self.settings.backbone, self._default_size)
        if (job.backbone, job.image_size) == usual and self.networks.has_backbone(*usual):
            self.previews.prepare(job)

    def ready(self) -> None:
        """Raises unless the default backbone is loaded, with the reason. Loads nothing itself."""
        if not self.networks.has_backbone(self.settings.backbone, self._default_size):
            raise self._warm_up_error or StillLoading("The default backbone")

    @property
    def precision(self) -> str | None:
        """Of the default backbone as it serves; None until it is loaded."""
        stocks = (stock for stock, _ in self.networks.warm_backbones())
        return next((s.precision for s in stocks if s.backbone.name == self.settings.backbone), None)

    def close(self) -> None:
        self._closed.set()
        self.batcher.close()
        self.networks.close()
        self.previews.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self.requests.shutdown(wait=False, cancel_futures=True)

    def forget(self, model_id: str) -> None:
        """The model was deleted. Requests that hold it still finish."""
        contents = [content.at(0)[: -len("0.00")] for content in self.networks.forget(model_id)]
        self.texts.forget(lambda network: network.startswith(tuple(contents)))

    @contextmanager
    def lend(self, row: Model) -> Iterator[tuple[Backbone, Weights]]:
        """An adapted model in its parts, which nobody changes.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        with self.networks.parts(row) as parts:
            yield parts

    @contextmanager
    def backbone(self, name: str, image_size: int | None) -> Iterator[Backbone]:
        """One of the operator's, which nobody changes. Raises BackboneUnavailable."""
        with self.networks.stock(name, image_size, wait_seconds=None) as stock:
            yield stock.backbone

    def classify(self, pictures: Sequence[bytes], question: Question, *, model: Subject = STOCK) -> Answer:
        """Score pictures against class names, with what `look_up` found: a model's row, the preview of a job,
        `stock` or `stock:<backbone>`.

        Raises:
            ModelNotFound: it was deleted since. UnknownBackbone, StillLoading, BackboneUnavailable.
            StorageUnavailable, BlobNotFound.
            ModelUnavailable: its files are missing or damaged; it is tried again every half minute.
            NoReadablePicture: none of the pictures can be read.
            NotCalibrated: `coverage` or `reject` is asked for, and nothing is known.
            Busy: others are being served for too long.
        """
        (answer,) = self.compare(pictures, question, models=[model])
        return answer

    def compare(
        self, pictures: Sequence[bytes], question: Question, *, models: Sequence[Subject]
    ) -> list[Answer]:
        """The answers of several models, each as from `classify`, which says what is raised. Pictures are
        decoded once for those on the same backbone."""
        limits = PictureLimits(self.settings.max_picture_bytes, self.settings.max_picture_pixels)
        shared = Pictures(pictures, limits, self._decoders)
        answers = []
        for model in models:
            started = time.perf_counter()
            with self._lend(model, question.alpha) as answering:
                answers.append(self._answer(shared, question, answering, started))
        return answers

    @contextmanager
    def _lend(self, model: Subject, alpha: float | None) -> Iterator[_Answering]:
        wait = self.settings.model_load_seconds
        if isinstance(model, JobPreview):
            with (
                self.networks.stock(model.backbone, model.image_size, wait_seconds=wait) as stock,
                self.previews.lease(model) as preview,
            ):
                yield _Answering(stock, preview, model, model.id, model.backbone, 0.0)
        elif isinstance(model, str):
            asked = model.removeprefix(STOCK).removeprefix(":") or self.settings.backbone
            known = self.networks.known(asked)
            with self.networks.stock(known, _recipe(known).image_size, wait_seconds=wait) as stock:
                yield _Answering(stock, None, None, model, asked, 0.0)
        else:
            alpha = model.alpha if alpha is None else alpha
            with self.networks.adapted(model, alpha, wait_seconds=wait) as network:
                yield _Answering(network, None, model, model.id, model.backbone, alpha)

    def _answer(
        self, pictures: Pictures, question: Question, answering: _Answering, started: float
    ) -> Answer:
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
        names = _understood(question, answering)

        decoding = time.perf_counter()
        results: list[list[Prediction] | BadPicture | None] = []
        works: list[Work] = []
        try:
            self._send(pictures, network, results, works)
            encoding = time.perf_counter()
            head = self.texts.head(network.key, names.texts, lambda some: self._encode(network, some))
            features = torch.cat([self._wait(work) for work in works])
        finally:
            for work in works:
                self.batcher.withdraw(work)  # those that nobody waits for any more
        scores = _scores(answering, features, head, names, question.new_names_balance)
        judged = None
        if known is not None:
            judged = judge(known, scores, network.backbone.logit_scale, question.coverage or 0.0)
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
            rejected=[] if judged is None else judged.rejected.tolist(),
            timing_ms={
                "decode": round(1000 * (encoding - decoding), 2),
                "encode": round(1000 * (encoded - encoding), 2),
                "total": round(1000 * (time.perf_counter() - started), 2),
            },
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
        with self.batcher.coming(lane):
            for some in pictures.decoded(network.backbone, self.batcher.largest["images"]):
                problems += [None if isinstance(one, Tensor) else one for one in some]
                if good := [one for one in some if isinstance(one, Tensor)]:
                    works.append(self.batcher.submit(lane, encode, torch.stack(good)))
        if not works:
            raise NoReadablePicture([problem for problem in problems if isinstance(problem, BadPicture)])

    def _encode(self, network: Network, texts: Sequence[Texts]) -> Tensor:
        """[C, D], a batch of sentences at a time, so that other networks have their turns in between."""
        sentences = list(dict.fromkeys(sentence for of_class in texts for sentence in of_class))
        lane, encode = network.texts
        works: list[Work] = []
        try:
            at_once = self.batcher.largest["texts"]
            for start in range(0, len(sentences), at_once):
                with self._tokenizing:
                    tokens = network.backbone.tokenize(sentences[start : start + at_once])
                works.append(self.batcher.submit(lane, encode, tokens))
            return head_of(torch.cat([self._wait(work) for work in works]), sentences, texts)
        finally:
            for work in works:
                self.batcher.withdraw(work)

    def _wait(self, work: Work) -> Tensor:
        return self.batcher.wait(work, self.settings.model_load_seconds)


def device_type(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device).type


def _lacking(ready: Ready | None) -> int:
    return 0 if ready is None else ready.pictures - len(ready.preview.labels)


@lru_cache
def _recipe(backbone: str) -> AdaptConfig:
    return resolve_config(backbone=backbone)


def _understood(question: Question, answering: _Answering) -> Names:
    row = answering.row
    templates = question.templates
    if templates is None:
        templates = tuple(row.templates) if row else _recipe(answering.backbone).templates
    own_texts: Mapping[str, Sequence[str]] = row.texts if row else {}
    return understood(question.class_names, row.classes if row else (), templates, own_texts)


def _scores(answering: _Answering, features: Tensor, head: Head, names: Names, balance: float) -> Scores:
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
