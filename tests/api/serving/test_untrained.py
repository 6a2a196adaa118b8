"""What a model was not trained for: the pre-trained network answers it, and only it passes twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
import torch

from clipcite.types.classify import Classification
from core.clip.data.images import open_image
from core.clip.inference.classifier import Classifier
from core.clip.weights.delta import Delta
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet
from tests.api import crafted
from tests.api.serving.adapted import KNOWN, moved
from tests.api.serving.world import World, numbers

POOL = ["red fox", "badger", "oak", "hedgehog", "a very old bridge", "7", "blue", "elk", "тёмный лес"]
FILES = [crafted.jpeg(seed) for seed in range(12)]


@dataclass(frozen=True)
class Trained:
    """A model, images like and unlike its training images, and new names."""

    model: str
    classes: list[str]
    like: list[bytes]
    unlike: list[bytes]
    new: list[str]


def train(world: World, *, related: bool, **given: Any) -> Trained:
    """Publish a model of two images. They are nearer to each other than any other image is to one of them.

    Args:
        related: new names are more similar to the trained ones than these are to each other, or less.
    """
    adapted = Classifier(world.backbone, Weights(Delta("full", moved(world.backbone))), 0.5)
    images = adapted.image_features(adapted.preprocess([open_image(data) for data in FILES]))
    texts = Classifier(world.backbone).text_features([[f"a photo of a {name}."] for name in POOL])
    near, cosines = images @ images.T, texts @ texts.T
    pair = max(combinations(range(len(FILES)), 2), key=lambda p: float(near[p]))
    chosen = max if not related else min
    names = chosen(combinations(range(len(POOL)), 2), key=lambda p: float(cosines[p]))
    shots = SupportSet(images[list(pair)].expand(3, -1, -1).clone(), torch.tensor([0, 1]))
    classes = [POOL[i] for i in names]
    model = world.publish(shots=shots, classes=classes, **given)
    others = [i for i in range(len(FILES)) if i not in pair]
    return Trained(
        model,
        classes,
        [FILES[i] for i in pair],
        [FILES[i] for i in others[:3]],
        [name for name in POOL if name not in classes],
    )


def passes(world: World) -> tuple[int, int]:
    counts = world.serving.engine.batcher.counts()
    return counts.batches.get("images", 0), counts.rows.get("images", 0)


def ask(
    world: World, task: Trained, names: Sequence[str], images: Sequence[bytes], **given: Any
) -> Classification:
    return world.classify(names, model=task.model, images=images, **given)


def assert_rows(answer: Classification, rows: Sequence[int], expected: Classification) -> None:
    found = numbers(answer)
    for row, wanted in zip(rows, numbers(expected), strict=True):
        for name, pair in wanted.items():
            assert found[row][name] == pytest.approx(pair, abs=2e-5), (row, name)


def assert_other_rows(one: Classification, other: Classification) -> None:
    for a, b in zip(numbers(one), numbers(other), strict=True):
        assert max(abs(a[name][0] - b[name][0]) for name in a) > 1e-3


@pytest.mark.parametrize("mixed", [False, True])
def test_what_it_was_not_trained_for_is_answered_as_at_alpha_0(world: World, mixed: bool) -> None:
    task = train(world, related=False)
    names = [*task.classes, *task.new] if mixed else task.new
    images = [task.like[0], task.unlike[0], task.unlike[1], task.like[1], task.unlike[2]]
    answer = ask(world, task, names, images)
    assert (answer.rule, answer.alpha) == ("mixed" if mixed else "untrained", 0.5)
    before = ask(world, task, names, task.unlike, alpha=0.0)
    assert_rows(answer, [0, 3], ask(world, task, names, task.like))
    best = [max(row, key=lambda name: row[name][0]) for row in numbers(before)]
    assert set(best) <= set(task.new)
    assert_rows(answer, [1, 2, 4], before)
    plain = ask(world, task, names, task.unlike, new_class_balance=0.0)
    assert_other_rows(plain, before)


def test_only_unlike_images_pass_twice_in_one_batch(world: World) -> None:
    task = train(world, related=False)
    ask(world, task, task.new, task.like)  # loads the model
    for names, images, options, expected in (
        (task.new, task.like, {}, (1, 2)),
        ([*task.classes, *task.new], task.like, {}, (1, 2)),
        (task.classes, [*task.like, *task.unlike], {}, (1, 5)),
        (task.new, [*task.like, *task.unlike], {"new_class_balance": 0.0}, (1, 5)),
        (task.new, [*task.like, *task.unlike], {"alpha": 0.0}, (1, 5)),
        (task.new, [*task.like, *task.unlike], {}, (2, 8)),
        ([*task.classes, *task.new], [*task.like, *task.unlike], {}, (2, 8)),
    ):
        batches, rows = passes(world)
        ask(world, task, names, images, **options)
        after = passes(world)
        assert (after[0] - batches, after[1] - rows) == expected, (names, options)
    assert world.loads == [world.backbone.name]


def test_the_pre_trained_network_stays_in_memory_between_the_passes(world: World) -> None:
    """There is room for nothing that is not in use, so a second load would follow if it were dropped."""
    task = train(world, related=False)
    world.pool.warm.budget_bytes = world.pool.backbones.budget_bytes = 0
    for requests in (1, 2):
        ask(world, task, task.new, task.unlike)
        assert passes(world)[1] == requests * 2 * len(task.unlike)
        assert world.loads == requests * [world.backbone.name]


def test_names_like_the_trained_ones_keep_the_trained_answer(world: World) -> None:
    task = train(world, related=True)
    answer = ask(world, task, task.new, task.unlike)
    assert passes(world)[1] == 2 * len(task.unlike)
    assert_rows(answer, range(3), ask(world, task, task.new, task.unlike, new_class_balance=0.0))
    before = ask(world, task, task.new, task.unlike, alpha=0.0)
    assert_other_rows(answer, before)


def test_the_models_temperature_is_not_the_pre_trained_ones(world: World) -> None:
    task = train(world, related=False, metrics={"calibration": KNOWN.to_dict()})
    answer, before = (
        ask(world, task, task.new, task.unlike),
        ask(world, task, task.new, task.unlike, alpha=0.0),
    )
    assert answer.calibration.temperature == 2
    assert_rows(answer, range(3), before)
