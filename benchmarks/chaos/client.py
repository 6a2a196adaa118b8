"""Well-behaved client: it repeats a request with its idempotency key until there is a response."""

import io
import json
import random
import threading
import time
import zipfile
from contextlib import suppress
from typing import Any

import httpx
from PIL import Image

PATIENCE_SECONDS = 900


class Client:
    def __init__(self, url: str) -> None:
        self.accepted: dict[str, str] = {}
        """Job ids by Idempotency-Key."""
        self.cancelled: set[str] = set()
        """Ids of jobs whose cancellation was requested."""
        self.retries = 0
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self._lock = threading.Lock()

    def submit(self, key: str, archive: bytes, **config: Any) -> str:
        """Submit a job with the name and idempotency key `key`, and return its id.

        Raises:
            httpx.HTTPError: there was no success within PATIENCE_SECONDS.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._http.post(
                    "/adapt",
                    files={"archive": ("shots.zip", archive)},
                    data={"name": key, "config": json.dumps(config)},
                    headers={"Idempotency-Key": key},
                )
                if answer.status_code < 500:
                    answer.raise_for_status()
                    job_id = self.accepted[key] = str(answer.json()["id"])
                    return job_id
                if time.monotonic() > until:
                    answer.raise_for_status()
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
            with self._lock:
                self.retries += 1
            time.sleep(0.3)

    def cancel(self, job_id: str) -> None:
        """Ask once for the cancellation of a job, which may have ended. The API may be dead."""
        self.cancelled.add(job_id)
        with suppress(httpx.TransportError):
            self._http.post(f"/jobs/{job_id}/cancel")


def shots(number: int, images: int = 2) -> bytes:
    """Return a zip of two classes of small images, different for each number."""
    rng = random.Random(number)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, red in (("red", 200), ("dark", 20)):
            for index in range(images):
                image = io.BytesIO()
                colour = (red + rng.randrange(40), rng.randrange(80), rng.randrange(80))
                Image.new("RGB", (40, 40), colour).save(image, "PNG")
                archive.writestr(f"{name}/{index}.png", image.getvalue())
    return buffer.getvalue()
