"""The engine's interface: the types that cross it, and the lifetime of an acquired model."""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
import torch
from torch import Tensor

from core.admission import ServerBusy
from core.clip.data.images import open_image
from core.clip.data.transforms import Pixels
from core.clip.models.features import encode_images, encode_tokens
from core.serving.pool.served_model import ServedModel
from core.serving.types import WeightsKey
from tests.api import crafted
from tests.core.serving.world import IMAGES, NAMES, World, content_of


def images(world: World) -> Tensor:
    pixels = Pixels(world.backbone.preprocess)
    return torch.stack([pixels.fit(open_image(data)) for data in IMAGES])


def assert_plain(value: Any) -> None:
    """Assert that a value consists of keys, arrays and plain dataclasses: no module, lock or callable."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            assert_plain(getattr(value, field.name))
    elif isinstance(value, Mapping):
        assert_plain(list(value.items()))
    elif isinstance(value, list | tuple):
        for one in value:
            assert_plain(one)
    else:
        assert value is None or type(value) in (str, int, float, bool, Tensor), type(value)


def test_only_plain_data_crosses(world: World) -> None:
    engine = world.serving.engine
    key = content_of(world, world.publish())
    assert_plain(key)
    with engine.acquire(key, 0.5, wait_seconds=10) as handle:
        assert_plain(handle)
        assert type(engine.encode_images(handle, images(world))) is Tensor
        stats = engine.stats()
        assert_plain(stats)
    assert (len(stats.backbones), len(stats.resident), stats.batches.rows["images"]) == (1, 2, 3)


def test_features_are_those_of_the_model(world: World) -> None:
    """The inputs are decoded images, and token ids with all of their padding."""
    backbone, engine = world.backbone, world.serving.engine
    decoded = images(world)
    tokens = backbone.tokenizer(NAMES)
    with engine.acquire(WeightsKey(backbone.name), 0, wait_seconds=None) as handle:
        assert (handle.image_size, handle.preprocess) == (backbone.image_size, backbone.preprocess_settings)
        torch.testing.assert_close(
            engine.encode_images(handle, decoded),
            encode_images(backbone.model, Pixels(backbone.preprocess).finish(decoded)),
            atol=1e-5,
            rtol=0,
        )
        torch.testing.assert_close(
            engine.encode_text(handle, tokens), encode_tokens(backbone.model, tokens), atol=1e-5, rtol=0
        )


def test_a_model_stays_while_it_is_acquired(world: World) -> None:
    engine = world.serving.engine
    key = content_of(world, world.publish())
    with engine.acquire(key, 0.5, wait_seconds=10) as second:
        with engine.acquire(key, 0.5, wait_seconds=10) as first:
            expected = engine.encode_images(first, images(world))
            assert (first.key, first.id) != (second.key, second.id)
            assert first.key == second.key
        assert torch.equal(engine.encode_images(second, images(world)), expected)
        assert engine._held.keys() == {second.key}
    assert engine._held == {}


def test_images_are_pending_until_the_last_one_is_sent(world: World) -> None:
    engine = world.serving.engine
    with engine.acquire(WeightsKey(world.backbone.name), 0, wait_seconds=None) as handle:
        lane = (handle.key, "images")
        with engine.expect_images(handle):
            assert engine.batcher._pending[lane] == 1
            engine.encode_images(handle, images(world), more=True)
            assert engine.batcher._pending[lane] == 1
            engine.encode_images(handle, images(world))
            assert engine.batcher._pending[lane] == 0
        with engine.expect_images(handle):
            pass
    assert not engine.batcher._pending
    assert engine._pending == {}


def test_many_images_come_back_in_their_order(world: World) -> None:
    """Several threads send more than one batch."""
    images = [crafted.jpeg(seed) for seed in range(30)]
    together = world.classify(images=[*images[:25], b"", *images[25:]])
    del together.results[25]
    for images_, result in zip(images, together.results, strict=True):
        (alone,) = world.classify(images=[images_]).results
        assert isinstance(alone, list)
        assert isinstance(result, list)
        assert [p.probability for p in result] == pytest.approx([p.probability for p in alone], abs=2e-5)


def test_the_model_is_held_until_its_images_end_if_the_prompts_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, failed, go_on = threading.Event(), threading.Event(), threading.Event()
    encode = ServedModel.encode_images

    def slow(self: ServedModel, pixels: Tensor) -> Tensor:
        begun.set()
        assert go_on.wait(600)
        return encode(self, pixels)

    def broken(sentences: Sequence[str]) -> None:
        assert begun.wait(600)
        failed.set()
        raise RuntimeError("no tokenizer")

    monkeypatch.setattr(ServedModel, "encode_images", slow)
    world.before_tokenizing = broken
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.classify)
        assert failed.wait(600)
        assert not wait([asked], timeout=0.5).done  # The image is still being computed.
        assert len(world.serving.engine._held) == 1
        go_on.set()
        with pytest.raises(RuntimeError, match="no tokenizer"):
            asked.result(600)
    assert world.serving.engine._held == {}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        # TorchScript raises no other type.
        RuntimeError("The following operation failed in the TorchScript interpreter.\nCUDA out of memory."),
    ],
)
@pytest.mark.parametrize(("room", "tried"), [(2, [3, 2, 1]), (1, [3, 2, 1, 1, 1]), (0, [3, 2, 1])])
def test_a_batch_too_large_for_the_gpu_is_halved(
    world: World, monkeypatch: pytest.MonkeyPatch, room: int, tried: list[int], error: RuntimeError
) -> None:
    """Other processes may take memory of the GPU at any time."""
    encode = ServedModel.encode_images
    sizes: list[int] = []

    def full(model: ServedModel, pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        if len(pixels) > room:
            raise error
        return encode(model, pixels)

    engine, rows = world.serving.engine, images(world)
    assert len(rows) == 3
    with engine.acquire(WeightsKey(world.backbone.name), 0, wait_seconds=None) as handle:
        expected = engine.encode_images(handle, rows)
        monkeypatch.setattr(ServedModel, "encode_images", full)
        if room:
            torch.testing.assert_close(engine.encode_images(handle, rows), expected)
        else:
            with pytest.raises(ServerBusy, match="too little free memory"):
                engine.encode_images(handle, rows)
    assert sizes == tried
