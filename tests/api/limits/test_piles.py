"""Uploads to a pile leave its service as large as it was."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from clipcite.client.piles import PART
from core.clip.models.backbone import Backbone
from tests.api.limits.measured import MB, Measured, measured

pytestmark = pytest.mark.slow  # one process of the API, and hundreds of images


@pytest.fixture
def service(tmp_path: Path, migrated: Path, backbone: Backbone) -> Iterator[Measured]:
    (tmp_path / "clipcite.db").write_bytes(migrated.read_bytes())
    with measured(tmp_path, backbone) as made:
        yield made


def noise(seed: int) -> bytes:
    """Return an image of about 100 kB, and so is its copy."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (384, 384, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return file.getvalue()


@pytest.mark.parametrize("keeps_images", [True, False])
def test_images_of_a_pile_stay_out_of_memory(service: Measured, keeps_images: bool) -> None:
    with httpx.Client(base_url=service.url, timeout=600) as http:
        pile = http.post("/piles", json={"keeps_images": keeps_images}).raise_for_status().json()["id"]

        def add(first: int, parts: int) -> int:
            sent = 0
            for start in range(first, first + parts * PART, PART):
                files = [("images", (f"{at}.jpg", noise(at))) for at in range(start, start + PART)]
                added = http.post(f"/piles/{pile}/images", files=files).raise_for_status().json()["images"]
                assert all(image["is_new"] for image in added)
                sent += sum(len(content) for _, (_, content) in files)
            return sent

        add(0, 5)  # until all threads and buffers are there
        before = service.resident()
        sent = add(5 * PART, 15)
        assert sent > 40 * MB
        grown = service.resident() - before
        assert grown < sent / 3
