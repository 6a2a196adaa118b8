"""Requests to /piles, each with its expected status, and photos of noise."""

from io import BytesIO
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.api.service import Body, Service
from tests.service.running import wait_for


def photo(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a JPEG of noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


PHOTOS = [photo(seed) for seed in range(12)]


def body_of(response: httpx.Response, status: int) -> Body:
    assert response.status_code == status, response.text
    body: Body = response.json()
    return body


def new_pile(service: Service, **fields: Any) -> str:
    response = service.client.post("/piles", json=fields)
    pile_id: str = body_of(response, 201)["id"]
    assert response.headers["location"] == f"/piles/{pile_id}"
    return pile_id


def add(service: Service, pile_id: str, photos: list[bytes], names: list[str] | None = None) -> Body:
    names = names or [f"holiday/{number}.jpg" for number in range(len(photos))]
    files = [("images", pair) for pair in zip(names, photos, strict=True)]
    return body_of(service.client.post(f"/piles/{pile_id}/images", files=files), 201)


def say(service: Service, pile_id: str, *answers: Body) -> Body:
    return body_of(service.client.post(f"/piles/{pile_id}/answers", json={"answers": list(answers)}), 200)


def of_class(name: str, *positions: int, how: str = "chosen") -> Body:
    return {"positions": positions, "said": "class", "class_name": name, "how": how}


def got(service: Service, path: str, **params: Any) -> Body:
    return body_of(service.client.get(path, params=params), 200)


def answer_of_sort(service: Service, pile_id: str, **params: Any) -> httpx.Response:
    """Wait for the features of another model, and return the response."""

    def sort() -> list[httpx.Response]:
        response = service.client.get(f"/piles/{pile_id}/sort", params=params)
        if response.status_code != 202:
            return [response]  # A refusal is not true.
        assert not response.json()["ready"]
        assert response.headers["retry-after"]
        return []

    found: list[httpx.Response] = wait_for(sort, seconds=60)
    return found[0]


def sorted_pile(service: Service, pile_id: str, **params: Any) -> Body:
    return body_of(answer_of_sort(service, pile_id, **params), 200)
