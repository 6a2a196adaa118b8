"""Collections through the Python client."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcite import Client, ImageResult, InvalidImages, Job, UnprocessableEntityError
from clipcite.types.classify import MAX_COLLECTION_IMAGES
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.painted import COLOURS
from tests.service.running import Service

UNREADABLE = {40, *range(64, 96)}
"""One image, and all images of one request."""


def photos() -> Iterator[bytes]:
    """Yield 300 noisy images, red and green in turn."""
    generator = np.random.default_rng(0)
    for number in range(300):
        noise = generator.integers(-60, 60, (24, 24, 3))
        pixels = np.clip(np.array(COLOURS["green" if number % 2 else "red"]) + noise, 0, 255)
        file = BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        yield b"no image" if number in UNREADABLE else file.getvalue()


@pytest.mark.parametrize("connect", [Client, awaited_client])
def test_sorting_in_parts_equals_one_collection(
    connect: Any, service: Service, taught: Job, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(300)]
    for path, photo in zip(paths, photos(), strict=True):
        path.write_bytes(photo)
    parts: list[list[ImageResult]] = []
    with connect(service.url) as client:
        answer = client.sort(paths, model=taught.model_id, top_k=2, on_results=parts.append)
        encoded = client.classify(paths, model=taught.model_id, features=True)
        features = [result.features for result in encoded if result.features]
        whole = client.classify_collection(features, model=taught.model_id)
    assert (answer.method, answer.reason) == (whole.method, whole.reason)
    assert answer.method == "self_training"
    assert [result.file for result in answer] == [str(path) for path in paths]
    assert {number for number, result in enumerate(answer) if result.error} == UNREADABLE
    assert [result.predictions for result in answer if not result.error] == [r.predictions for r in whole]
    shown = [result for part in parts for result in part]
    assert max(map(len, parts)) <= 64
    assert [result.file for result in shown] == [result.file for result in answer]
    assert [result.error for result in shown] == [result.error for result in answer]


@pytest.mark.parametrize("connect", [Client, awaited_client])
def test_groups_without_a_model(connect: Any, service: Service, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(300)]
    for path, photo in zip(paths, photos(), strict=True):
        path.write_bytes(photo)
    with connect(service.url) as client:
        groups = client.group(paths)
        assert client.group(paths, groups=3) == groups[:3]
        encoded = client.classify(paths, ["photo"], features=True)
        features = {str(p): r.features for p, r in zip(paths, encoded, strict=True) if r.features}
        whole = client.classify_collection(list(features.values()), model="stock", groups=500)
    readable = [path for number, path in enumerate(paths) if number not in UNREADABLE]
    assert groups == [[readable[position] for position in group] for group in whole.groups]
    found = [path for group in groups for path in group]
    assert len({*found}) == len(found) > 200
    assert {*found} <= {*readable}


def test_a_reference_that_changes_meanwhile(service: Service, taught: Job, tmp_path: Path) -> None:
    images = [photo for photo in photos() if photo != b"no image"][:40]
    seen: list[list[ImageResult]] = []
    with Client(service.url) as client:
        path = client.models.export(taught.model_id, tmp_path / "model.zip", format="delta")
        before, after = (client.models.import_model(path, name="sorted") for _ in range(2))
        client.aliases.promote("sorted", "prod", before.id)

        def promote(results: list[ImageResult]) -> None:
            seen.append(results)
            if len(seen) == 1:
                client.aliases.promote("sorted", "prod", after.id)

        answer = client.sort(images, model="sorted@prod", on_results=promote)
    assert (answer.model, [len(part) for part in seen]) == (before.id, [32, 8])


def test_nothing_to_sort(service: Service, taught: Job) -> None:
    with Client(service.url) as client:
        for images in ([], [b""] * (MAX_COLLECTION_IMAGES + 1)):
            with pytest.raises(InvalidImages, match="Send 1 to 20,000 images at a time"):
                client.sort(images, model="stock")
            with pytest.raises(InvalidImages, match="Send 1 to 20,000 images at a time"):
                client.group(images)
        with pytest.raises(UnprocessableEntityError, match=r"image-1: "):
            client.sort([b"", b""], ["a", "b"], model="stock")
