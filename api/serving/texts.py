"""Class names of requests: cleaned, resolved to prompts and encoded, with a cache of the features.

Cached features may outlive the model that computed them.
"""

import sys
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from api.serving.engine import Engine
from api.serving.held_model import HeldModel
from api.serving.lru_cache import LruCache
from api.serving.pool.served_model import ServedModel
from api.serving.threads import single_threaded
from clipcite.types.base import MAX_CLASS_NAMES
from clipcite.types.class_names import same_class
from clipcite.types.classify import ClassName, Options
from core.admission import ServerBusy, Take
from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.request_rule import RequestRule, adapted_rule
from core.clip.models.features import classifier_from_features
from core.clip.prompts import Candidates, Prompts, check_prompts, clean_class_name
from core.store.accounts import audit
from core.turns import TurnThreads

TEXT_CACHE_BYTES = 250_000_000
"""Memory for features and classifiers of all class names (bytes), about 5 kB per class name."""
OVERHEAD = 1_000
"""Bytes of a tensor object, its key and its cache entry, without the tensor's data (upper bound)."""
CLASS_OVERHEAD = 150
"""Bytes per class in a key, without its prompts (upper bound)."""
PROMPTS_PER_IMAGE = 100
"""Number of prompts that take about as long as an image."""
PROMPTS_PER_TURN = 16
"""Prompts that are tokenized at once. They take up to 0.2 s, with 1,000 of the slowest characters each."""
PROMPTS_PER_PART = 128
"""Prompts after which the features of a request are kept, and it ends if its client has gone."""
MAX_SECONDS = 30.0
"""Maximum time for the prompts of a request (seconds). Clients wait for about twice as long."""


class InvalidNames(InvalidClassNames):
    """Invalid class names of a request. `errors` lists all of them."""

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__(errors[0]["detail"])
        self.errors = list(errors)


class RequestClassifier:
    """The class names of a request for one model. `encode` adds their features and the rule of the request.

    After that it never changes.
    """

    text_features: Tensor
    """[C, D], normalised."""
    rule: RequestRule
    """Rule of an adapted model. A preview does not use it, because its rule changes as images are encoded."""

    def __init__(
        self,
        key: Hashable,
        candidates: Candidates,
        balance: float,
        warnings: Sequence[dict[str, str]] = (),
    ) -> None:
        self.key = key
        """Key in the cache. It has everything that determines the features and the rule."""
        self.candidates = candidates
        self.balance = balance
        self.warnings = warnings
        self.kinds = ["new" if c == NEW_CLASS else "trained" for c in candidates.classes]
        self.encoded = False
        self.encoding = threading.Lock()

    @property
    def bytes(self) -> int:
        """Memory (bytes, upper bound), including the class names as sent, which are part of the key."""
        names = zip(self.candidates.names, self.candidates.prompts, strict=True)
        return (
            OVERHEAD
            + self.text_features.nbytes
            + self.rule.nbytes
            + sum(
                2 * (CLASS_OVERHEAD + sys.getsizeof(name)) + _prompts_bytes(prompts)
                for name, prompts in names
            )
        )


class Texts:
    """Classifiers of requests."""

    def __init__(self, engine: Engine, budget_bytes: int = TEXT_CACHE_BYTES) -> None:
        self._engine = engine
        self.kept = LruCache(budget_bytes)
        """Features [D] of classes by model and prompts, and classifiers by `RequestClassifier.key`.

        Those of a deleted model are evicted in time. Its id is never used again.
        """
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[Hashable, RequestClassifier] = WeakValueDictionary()
        # Hugging Face tokenizers serve one caller at a time. A caller with 20,000 prompts yields in between.
        self._tokenizing = TurnThreads(single_threaded(1, "tokenizer"))

    def classifier(self, model: HeldModel, options: Options) -> RequestClassifier:
        """Return the classifier of a request. `encode` computes its features.

        Raises:
            InvalidNames: names are missing or invalid. Every invalid name is listed.
        """
        templates = tuple(options.templates or model.templates)
        sent, balance = tuple(options.class_names or ()), options.new_class_balance
        key = model.served.key, model.name, sent, templates, balance
        found: RequestClassifier | None = self.kept.get(key)
        if found is not None:
            return found
        names, warnings = _cleaned(sent)
        prompts: dict[str, Sequence[str]] = {each.name: each.prompts for each in names if each.prompts}
        for name, sentences in model.prompts.items():
            prompts.setdefault(name, sentences)
        candidates = Candidates.of([each.name for each in names], model.classes, templates, prompts)
        with self._lock:
            return self._making.setdefault(key, RequestClassifier(key, candidates, balance, warnings))

    def encode(self, classifier: RequestClassifier, model: HeldModel, take: Take) -> None:
        """Compute the missing features of a classifier. If another request computes them, wait for it.

        Raises:
            ServerBusy: other requests take too long or hold too much, or the features take MAX_SECONDS.
        """
        if not classifier.encoding.acquire(timeout=self._engine.wait_seconds):
            raise ServerBusy("The class names are being processed. Try again in a few seconds.")
        try:
            if classifier.encoded:
                return
            features = self.features(model.served, classifier.candidates.prompts, take)
            classes, scale = classifier.candidates.classes, model.served.backbone.logit_scale
            classifier.rule = adapted_rule(model.served.shots, features, classes, scale, classifier.balance)
            classifier.text_features = features
            classifier.encoded = True
            self.kept.put(classifier.key, classifier, classifier.bytes)
        finally:
            classifier.encoding.release()

    def features(self, served: ServedModel, prompts: Sequence[Prompts], take: Take) -> Tensor:
        """Return the features [C, D] of C classes, normalised. Computed ones are kept at once.

        Args:
            take: takes images from the budget, for the prompts to encode.

        Raises:
            ServerBusy: other requests take too long or hold too much, or the features take MAX_SECONDS.
        """
        rows = {each: self.kept.get((served.key, each)) for each in dict.fromkeys(prompts)}
        missing = [each for each, row in rows.items() if row is None]
        if missing:
            take(sum(map(len, missing)) // PROMPTS_PER_IMAGE)
        started, done = time.monotonic(), 0
        for part in _parts(missing):
            if done and time.monotonic() - started > MAX_SECONDS:
                raise ServerBusy(
                    f"The service has encoded {done:,} of {len(missing):,} class names and keeps them. Send "
                    "the same request again to continue, or send fewer class names or prompts.",
                    retry_after=1,
                )
            take(0)
            for each, row in zip(part, self._encoded(served, part), strict=True):
                # A view instead of a copy would keep the whole batch in memory.
                rows[each] = row = row.clone()
                size = row.nbytes + OVERHEAD + CLASS_OVERHEAD + _prompts_bytes(each)
                self.kept.put((served.key, each), row, size)
            done += len(part)
        return torch.stack([rows[each] for each in prompts])

    def _encoded(self, served: ServedModel, prompts: Sequence[Prompts]) -> Tensor:
        owner = audit.actor().owner
        sentences = list(dict.fromkeys(sentence for class_prompts in prompts for sentence in class_prompts))
        tokens: list[Tensor] = []
        for start in range(0, len(sentences), PROMPTS_PER_TURN):
            some = sentences[start : start + PROMPTS_PER_TURN]
            tokens.append(self._tokenizing.submit(owner, served.backbone.tokenizer, some).result())
        encoded = self._engine.encode_text(served, torch.cat(tokens), wait_seconds=self._engine.wait_seconds)
        return classifier_from_features(encoded, sentences, prompts)

    def close(self) -> None:
        """Stop the thread."""
        self._tokenizing.shutdown()


def _cleaned(sent: Sequence[ClassName]) -> tuple[list[ClassName], list[dict[str, str]]]:
    """Return the cleaned names, each once, and warnings about changed names."""
    if not sent:
        detail = f"No class names were sent. Send 1 to {MAX_CLASS_NAMES}."
        raise InvalidNames([{"pointer": "/class_names", "detail": detail}])
    names: dict[str, ClassName] = {}
    errors: list[dict[str, str]] = []
    repeated: list[str] = []
    for index, each in enumerate(sent):
        try:
            name = clean_class_name(each.name)
            if each.prompts is not None:
                check_prompts({name: each.prompts})
        except (InvalidClassNames, InvalidConfig) as error:
            errors.append({"pointer": f"/class_names/{index}", "code": error.code, "detail": error.detail})
            continue
        if same_class(name) in names:
            repeated.append(name)
        else:
            names[same_class(name)] = ClassName(name, each.prompts)
    if errors:
        raise InvalidNames(errors)
    warnings = []
    if repeated:
        detail = f"Duplicate class names were merged: {', '.join(repeated[:5])}."
        warnings.append({"code": "repeated_class_names", "detail": detail})
    if len(names) == 1:
        detail = (
            "With a single class name the probability is always 1. Add the classes it could be confused "
            "with, or use `similarity`."
        )
        warnings.append({"code": "one_class_name", "detail": detail})
    return list(names.values()), warnings


def _parts(classes: Sequence[Prompts]) -> Iterator[list[Prompts]]:
    """Yield the prompts of classes in parts of about PROMPTS_PER_PART prompts."""
    part: list[Prompts] = []
    for prompts in classes:
        part.append(prompts)
        if sum(map(len, part)) >= PROMPTS_PER_PART:
            yield part
            part = []
    if part:
        yield part


def _prompts_bytes(prompts: Prompts) -> int:
    """Return the memory of one class's prompts: the objects, and 1 to 4 bytes per character."""
    return sum(map(sys.getsizeof, prompts)) + 8 * len(prompts)
