"""A Serving on real storage, and readers of its answers."""

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from api.classify.scoring import Images, classify
from api.serving.pool import model_pool as serving_networks
from api.serving.service import Serving, Subject, look_up
from api.serving.types import WeightsKey
from clipcite.types.classify import STOCK, ClassIn, Options
from clipcite.types.predictions import Classification
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.models.backbone import Backbone
from core.settings import Settings
from core.store.accounts import audit
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.registry import models
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.api.serving.adapted import publish_model

T = TypeVar("T")
IMAGES = [crafted.jpeg(1), crafted.png(2, 64, 48), crafted.jpeg(3, 33, 90)]
NAMES = ["red fox", "badger", "a tree {with} braces", "фокс 🦊"]


def as_owner(owner: str, call: Callable[[], T]) -> T:
    """Call a function as in a request of this owner."""

    def run() -> T:
        audit.act_as(audit.Actor(owner, "key"))
        return call()

    return contextvars.copy_context().run(run)


def ask(
    serving: Serving,
    model: Subject,
    names: Sequence[str | ClassIn] = NAMES,
    images: Sequence[bytes] = IMAGES,
    **options: Any,
) -> Classification:
    take = options.pop("take", lambda more: None)
    asked = Options(class_names=list(names), **options)
    return classify(serving, Images(images, serving), asked, model, take=take)


class World:
    """Serving on a migrated database, with the calls of its loaders and tokenizer recorded."""

    def __init__(self, backbone: Backbone, data: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
        self.backbone = backbone
        self.settings = Settings(data=data, backbone=backbone.name, cache=data / "cache", **given)
        self.database = Database(self.settings.sqlalchemy_url())
        self.blobs = Blobs(self.settings.blobs_url())
        self.serving = Serving(self.settings, self.database, self.blobs)
        self.pool = self.serving.engine.pool
        self.loads: list[str] = []
        self.sentences: list[str] = []
        self.before_tokenizing: Callable[[Sequence[str]], None] = lambda sentences: None
        real = serving_networks.load_backbone

        def load(name: str, **options: Any) -> Backbone:
            self.loads.append(name)
            loaded = real(name, **options)

            def tokenize(sentences: Sequence[str]) -> Tensor:
                self.sentences += sentences
                self.before_tokenizing(sentences)
                tokens: Tensor = loaded.tokenizer(sentences)
                return tokens

            return replace(loaded, tokenizer=tokenize)

        monkeypatch.setattr(serving_networks, "load_backbone", load)

    def publish(self, **given: Any) -> str:
        return publish_model(self.database, self.blobs, self.backbone, **given)

    def classify(self, names: Sequence[str | ClassIn] = NAMES, **options: Any) -> Classification:
        model = look_up(self.database, options.pop("model", STOCK), owner=DEFAULT_OWNER)
        images = options.pop("images", IMAGES)
        return ask(self.serving, model, names, images, **options)

    def row(self, model: str) -> Model:
        with self.database.read() as session:
            return models.get(session, model, owner=DEFAULT_OWNER)

    def close(self) -> None:
        self.serving.close()
        self.database.close()


def kinds(answer: Classification) -> dict[str, str]:
    return {one.name: one.kind for one in answer.class_names}


def offsets(answer: Classification) -> list[float]:
    return [one.offset for one in answer.class_names]


def numbers(answer: Classification) -> list[dict[str, tuple[float, float]]]:
    """Return (probability, similarity) per class name for each image."""
    found = []
    for result in answer.results:
        assert result.error is None
        found.append({p.class_name: (p.probability, p.similarity) for p in result.predictions})
    return found


def exactly(answer: Classification) -> list[list[tuple[str, float, float]]]:
    """Return names and numbers exactly and in order."""
    found = []
    for result in answer.results:
        assert result.error is None
        found.append([(p.class_name, p.probability, p.similarity) for p in result.predictions])
    return found


def assert_close(
    one: list[dict[str, tuple[float, float]]], other: list[dict[str, tuple[float, float]]]
) -> None:
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for a, b in zip(one, other, strict=True):
        for name in a:
            assert a[name] == pytest.approx(b[name], abs=2e-5), name


def in_order(answer: Classification) -> list[dict[str, tuple[float, float]]]:
    return [{name: row[name] for name in NAMES} for row in numbers(answer)]


def content_of(world: World, model: str) -> WeightsKey:
    return WeightsKey.of(world.row(model))


def images(world: World) -> Tensor:
    pixels = Pixels(world.backbone.preprocess)
    return torch.stack([pixels.fit(open_image(data)) for data in IMAGES])
