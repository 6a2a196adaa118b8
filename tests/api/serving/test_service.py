"""Serving against plain references without caches or batches: one image and one prompt at a time."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from api.serving.pool.cache import StillLoading
from api.serving.pool.model_pool import MODEL, ModelPool, ModelUnavailable
from clipcite.types.classify import STOCK, ClassIn
from core.clip.data.images import open_image
from core.clip.inference.classifier import Classifier, Scores
from core.clip.inference.request_rule import RequestKind
from core.clip.prompts import class_indices
from core.clip.weights.delta import Delta
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.registry import models
from tests.api import crafted
from tests.api.serving.adapted import CLASSES, moved
from tests.api.serving.world import (
    IMAGES,
    NAMES,
    World,
    ask,
    assert_close,
    content_of,
    exactly,
    in_order,
    numbers,
    offsets,
)
from tests.service.running import wait_for

TEMPLATES = ["a photo of a {}.", "a blurry {}"]


def test_alpha_0_is_the_stock_backbone_bit_for_bit(world: World) -> None:
    model = world.publish(alpha=0.7)
    assert exactly(world.classify(model=model, alpha=0.0)) == exactly(world.classify())
    assert exactly(world.classify(model=model)) != exactly(world.classify())


# --- prompts ---


def test_prompts_are_encoded_once(world: World) -> None:
    model = world.publish()
    first = world.classify(model=model)
    assert sorted(world.sentences) == sorted(f"a photo of a {name}." for name in NAMES)
    world.sentences.clear()
    assert exactly(world.classify(model=model)) == exactly(first)
    assert world.sentences == []
    turned = numbers(world.classify(NAMES[::-1], model=model))
    assert world.sentences == []
    assert_close([{name: row[name] for name in NAMES} for row in turned], in_order(first))
    world.classify([*NAMES, "one more"], model=model)
    assert world.sentences == ["a photo of a one more."]


def test_many_prompts_let_others_in_between(world: World) -> None:
    tokenizing, release = threading.Semaphore(0), threading.Semaphore(0)
    order: list[str] = []

    def tokenize(prompts: Sequence[str]) -> None:
        order.append(prompts[0][0])
        tokenizing.release()
        assert release.acquire(timeout=600)

    world.before_tokenizing = tokenize

    def classify(owner: str, prompts: int) -> None:
        names = [f"{owner} {i}" for i in range(prompts)]
        ask(world.serving, STOCK, names, IMAGES[:1], templates=["{}"])

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(classify, "a", 200)
        assert tokenizing.acquire(timeout=600)
        other = pool.submit(classify, "b", 1)
        wait_for(lambda: bool(world.serving.texts._tokenizing._waiting))
        for _ in range(100):
            release.release()
        other.result(60)
        first.result(60)
    assert order[:3] == ["a", "b", "a"]


def test_each_alpha_has_prompts_of_its_own(world: World) -> None:
    """The text tower is adapted too, so features of another α must not be reused."""
    model = world.publish()
    at_half = exactly(world.classify(model=model, alpha=0.5))
    world.sentences.clear()
    at_one = exactly(world.classify(model=model, alpha=1.0))
    assert len(world.sentences) == len(NAMES)
    assert at_one != at_half
    assert exactly(world.classify(model=model, alpha=0.5)) == at_half


def test_the_precedence_of_prompts(world: World) -> None:
    """The request's prompts win; then the model's for its classes under any spelling; then the templates."""
    own = {"Badger": ["a striped digger"]}
    model = world.publish(prompts=own, templates=["a drawing of a {}"])
    names = ["BADGER", "red fox", ClassIn(name="oak", prompts=["a tree", "a large plant"])]
    world.classify(names, model=model)
    assert world.sentences == ["a striped digger", "a drawing of a red fox", "a tree", "a large plant"]
    world.sentences.clear()
    world.classify([ClassIn(name="badger", prompts=["something else"])], model=model)
    assert world.sentences == ["something else"]
    world.sentences.clear()
    world.classify(["badger", "elk"], model=model, templates=["my {}"])
    # The prompts of the training still apply to the model's own classes.
    assert world.sentences == ["my elk"]


# --- loading ---


def test_a_model_is_based_on_the_stock_backbone(world: World) -> None:
    world.classify()
    world.classify(model=world.publish())
    assert world.loads == [world.backbone.name]


def test_ready(world: World) -> None:
    with pytest.raises(StillLoading):
        world.serving.ready()
    world.serving.warm_up()
    world.serving.ready()


def test_warming_up_outlives_an_unexpected_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    load, tries = ModelPool.acquire, iter(range(9))

    def acquire(self: ModelPool, *given: Any, **named: Any) -> Any:
        if next(tries) == 0:
            raise RuntimeError("a fault of ours")
        return load(self, *given, **named)

    monkeypatch.setattr(ModelPool, "acquire", acquire)
    monkeypatch.setattr("api.serving.service.WARM_UP_AGAIN_SECONDS", 0.01)
    world.serving.warm_up()
    world.serving.ready()


def test_forget(world: World) -> None:
    model, other = (world.publish(theta_1=moved(world.backbone, seed)) for seed in (1, 2))
    world.classify(model=model, alpha=0.2)
    expected = exactly(world.classify(model=other))
    gone = content_of(world, model)
    world.serving.forget(model)
    assert not world.pool.warm.has((MODEL, gone, 0.2))
    assert world.pool.warm.has((MODEL, content_of(world, other), 0.5))
    assert exactly(world.classify(model=other)) == expected


def weights_of(world: World, model: str) -> Path:
    with world.database.read() as session:
        key = models.get(session, model, owner=DEFAULT_OWNER).weights_key
    return world.settings.data / "blobs" / key


def test_a_flipped_bit_is_never_served(world: World) -> None:
    model, good = (world.publish(theta_1=moved(world.backbone, seed)) for seed in (1, 2))
    path = weights_of(world, model)
    content = path.read_bytes()
    for position in [0, 9, 100, len(content) // 2, len(content) - 1]:
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ModelUnavailable, match=f"{model} can't be used.*train it again"):
            world.classify(model=model)
    world.classify(model=good)
    world.classify()
    path.write_bytes(content)
    world.classify(model=model)  # Repaired by the operator, without a restart.


def test_a_damaged_manifest(world: World) -> None:
    model, other = world.publish(), world.publish(theta_1=moved(world.backbone, seed=2))
    path = weights_of(world, model).with_name("manifest.json")
    for content in ("", weights_of(world, other).with_name("manifest.json").read_text()):
        path.write_text(content)
        with pytest.raises(ModelUnavailable):
            world.classify(model=model)


# --- images ---


@pytest.mark.parametrize(
    ("names", "kind"),
    [(CLASSES, "closed"), ([*CLASSES, "hedgehog", "oak"], "mixed"), (["hedgehog", "oak"], "untrained")],
)
def test_the_rule_follows_the_classes(world: World, names: list[str], kind: RequestKind) -> None:
    theta_1 = moved(world.backbone)
    plain = Classifier(world.backbone, Weights(Delta("full", theta_1)), 0.8)
    images = [open_image(data) for data in IMAGES]
    seen = plain.image_features(plain.preprocess([open_image(crafted.jpeg(seed)) for seed in range(6)]))
    shots = SupportSet(torch.stack([seen, seen.flip(0), seen.roll(1, 0)]), torch.arange(6) % len(CLASSES))
    model = world.publish(theta_1=theta_1, shots=shots, alpha=0.8, templates=TEMPLATES)
    answer = world.classify(names, model=model, new_class_balance=0.5)
    assert (answer.rule, answer.alpha) == (kind, 0.8)
    for stock in (world.classify(names), world.classify(names, model=model, alpha=0)):
        assert (stock.rule, set(offsets(stock))) == ("untrained", {0})

    of_stock = Classifier(world.backbone).classify(images, [[f"a photo of a {name}."] for name in names])
    assert_like(world.classify(names), of_stock, names, abs=2e-5)
    classifier = Classifier(world.backbone, Weights(Delta("full", theta_1), shots), 0.8)
    expected = classifier.scores(
        classifier.image_features(classifier.preprocess(images)),
        classifier.text_features(
            [[template.replace("{}", name) for template in TEMPLATES] for name in names]
        ),
        classes=class_indices(names, CLASSES),
        balance=0.5,
    )
    assert offsets(answer) == pytest.approx(expected.rule.offsets.tolist(), abs=1e-3)
    assert_like(answer, expected, names, abs=1e-3)  # the support set is stored in 16 bits


def assert_like(answer: Any, expected: Scores, names: Sequence[str], *, abs: float) -> None:
    for i, row in enumerate(numbers(answer)):
        for c, name in enumerate(names):
            found = (float(expected.probabilities[i, c]), float(expected.similarities[i, c]))
            assert row[name] == pytest.approx(found, abs=abs)
