"""The model pool at any α, over one cache: sharing, retention and eviction."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from api.serving.pool.cache import StillLoading
from api.serving.pool.model_pool import BACKBONE, DELTA, MAX_BACKBONES, MODEL
from api.serving.types import WeightsKey
from clipcite.types.adapt import DeltaFormat
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import encode_images, encode_tokens
from core.clip.weights.ensemble import interpolate
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.errors import ModelNotFound, StorageUnavailable
from core.store.registry import models
from tests.api.serving.adapted import moved
from tests.api.serving.pool.contents import contents
from tests.api.serving.world import IMAGES, NAMES, World, ask, content_of, exactly, in_order


def away(key: str) -> bytes:
    raise StorageUnavailable("The storage can't be read.")


def delete(world: World, model: str) -> None:
    """Delete the model as DELETE /models does."""
    with world.database.write() as session:
        models.delete(session, model, owner=DEFAULT_OWNER, force=True)
    world.blobs.delete_prefix(models.blobs_of(model))
    world.serving.forget(model)


# --- θ(α) ---


def test_every_alpha_is_the_interpolation(world: World) -> None:
    backbone, theta_1 = world.backbone, moved(world.backbone)
    content = content_of(world, world.publish(theta_1=theta_1))
    pixels = Pixels(backbone.preprocess)
    images = torch.stack([pixels.fit(open_image(data)) for data in IMAGES])
    tokens = backbone.tokenize(NAMES)
    theta_0 = tower_parameters(backbone.model)
    for alpha in (0.01, 0.29, 0.5, 0.99, 1.0):
        plain = with_parameters(backbone, interpolate(theta_0, theta_1, alpha))
        with world.pool.acquire(content, alpha, wait_seconds=10) as network:
            torch.testing.assert_close(
                network.encode_images(images),
                encode_images(plain, pixels.finish(images)),
                atol=1e-5,
                rtol=0,
            )
            torch.testing.assert_close(
                network.encode_tokens(tokens), encode_tokens(plain, tokens), atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("delta_format", ["full", "4bit"])
def test_another_alpha_reads_no_storage(
    world: World, monkeypatch: pytest.MonkeyPatch, delta_format: DeltaFormat
) -> None:
    model = world.publish(delta_format=delta_format, alpha=0.5)
    first = in_order(world.classify(model=model))
    monkeypatch.setattr(world.blobs, "get", away)
    assert in_order(world.classify(model=model, alpha=0.9)) != first
    assert contents(world.pool.warm, MODEL).values == 2
    assert contents(world.pool.warm, DELTA).values == 1


def test_counted_bytes_are_those_in_use(world: World) -> None:
    model = world.publish(delta_format="4bit")
    world.classify(model=model, alpha=0.5)
    parameters = sum(p.nbytes for p in tower_parameters(world.backbone.model).values())
    with world.pool.acquire(content_of(world, model), 0.5, wait_seconds=10) as network:
        assert network.bytes == pytest.approx(parameters, rel=0.05)
        assert network.bytes < world.pool.warm.bytes < network.bytes + parameters / 2
    with world.pool.stock(world.backbone.name, None, wait_seconds=10) as stock:
        assert stock.bytes == 0  # The backbone itself, which the model shares.
    assert contents(world.pool.backbones, BACKBONE).in_use == 1


# --- eviction ---


def test_deleted_while_it_is_used(world: World) -> None:
    model = world.publish()
    row = world.row(model)
    fit = Pixels(world.backbone.preprocess).fit
    images = torch.stack([fit(open_image(data)) for data in IMAGES])
    with world.pool.acquire(WeightsKey.of(row), 0.5, wait_seconds=10) as network:
        before = network.encode_images(images)
        delete(world, model)
        assert torch.equal(network.encode_images(images), before)
        assert world.pool.warm.bytes > 0
    assert world.pool.warm.bytes == 0
    with pytest.raises(ModelNotFound):
        ask(world.serving, row)
    assert world.pool.warm.bytes == 0


def test_deleted_while_it_is_loaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are read before their deletion: the waiting request is answered, and nothing
    remains cached.
    """
    model = world.publish()
    reading, go_on = threading.Event(), threading.Event()
    get = world.blobs.get

    def slow(key: str) -> bytes:
        data = get(key)
        if key.endswith("safetensors"):
            reading.set()
            assert go_on.wait(60)
        return data

    monkeypatch.setattr(world.blobs, "get", slow)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.classify, model=model)
        assert reading.wait(60)
        delete(world, model)
        go_on.set()
        assert asked.result(60).model == model
    assert world.pool.warm.bytes == 0


def test_prompts_outlive_their_model(backbone: Backbone, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(p.nbytes for p in tower_parameters(backbone.model).values())
    world = World(backbone, data, monkeypatch, model_cache_bytes=int(2.2 * size))
    try:
        one, *others = (
            world.publish(theta_1=moved(backbone, seed), delta_format="4bit") for seed in range(4)
        )
        expected = exactly(world.classify(model=one))
        for other in others:
            world.classify(model=other)
        assert not world.pool.warm.has((MODEL, content_of(world, one), 0.5))
        world.sentences.clear()
        assert exactly(world.classify(model=one)) == expected  # Bit for bit.
        assert world.sentences == []
        assert world.pool.warm.bytes <= int(2.2 * size)
    finally:
        world.close()


def test_backbones_in_use_are_limited(world: World) -> None:
    """A client chooses the image size of its jobs, and each size is a whole network."""
    with ExitStack() as held:
        for i in range(MAX_BACKBONES):
            held.enter_context(world.pool.stock(world.backbone.name, 32 + 8 * i, wait_seconds=60))
        with pytest.raises(StillLoading):
            held.enter_context(world.pool.stock(world.backbone.name, 128, wait_seconds=0.2))
        assert contents(world.pool.backbones, BACKBONE).in_use == MAX_BACKBONES
    with world.pool.stock(world.backbone.name, 128, wait_seconds=60):
        pass
