"""The engine: features of acquired models, and how long these stay in memory."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from torch import Tensor

from api.serving.pool.model_pool import BACKBONE
from api.serving.pool.served_model import ServedModel
from api.serving.types import WeightsKey
from core.admission import ServerBusy
from tests.api import crafted
from tests.api.serving.pool.contents import contents
from tests.api.serving.world import World, images


def held(world: World) -> int:
    """Return the number of requests that use the backbone."""
    return contents(world.pool.backbones, BACKBONE).in_use


def test_many_images_come_back_in_their_order(world: World) -> None:
    """Several threads send more than one batch."""
    images = [crafted.jpeg(seed) for seed in range(30)]
    together = world.classify(images=[*images[:25], b"", *images[25:]])
    del together.results[25]
    for images_, result in zip(images, together.results, strict=True):
        (alone,) = world.classify(images=[images_]).results
        found, expected = ([p.probability for p in each.predictions] for each in (result, alone))
        assert found == pytest.approx(expected, abs=2e-5)


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
        assert held(world) == 1
        go_on.set()
        with pytest.raises(RuntimeError, match="no tokenizer"):
            asked.result(600)
    assert held(world) == 0


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
    with engine.pool.acquire(WeightsKey(world.backbone.name), 0, wait_seconds=None) as model:
        expected = engine.encode_images(model, rows, wait_seconds=None)
        monkeypatch.setattr(ServedModel, "encode_images", full)
        if room:
            torch.testing.assert_close(engine.encode_images(model, rows, wait_seconds=None), expected)
        else:
            with pytest.raises(ServerBusy, match="too little free memory"):
                engine.encode_images(model, rows, wait_seconds=None)
    assert sizes == tried
