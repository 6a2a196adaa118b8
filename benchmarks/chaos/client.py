"""Well-behaved client: it repeats a request with its idempotency key until there is a response."""

import io
import json
import random
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

PATIENCE_SECONDS = 900


class Client:
    """Client with a log of the accepted jobs: one JSON object per line, `{"key", "job_id", "seconds"}`."""

    def __init__(self, url: str, log: Path, *, key: str | None = None) -> None:
        self.accepted: dict[str, str] = {}
        """Job ids by Idempotency-Key."""
        self.cancelled: set[str] = set()
        """Ids of jobs whose cancellation was requested."""
        self.seconds: list[float] = []
        """Seconds of each request that got a response."""
        self.replayed = 0
        self.retries = 0
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        self._log = log
        self._lock = threading.Lock()

    def submit(self, key: str, archive: bytes, **config: Any) -> str:
        """Submit a job with the name and idempotency key `key`, and return its id.

        Raises:
            httpx.HTTPError: there was no success within PATIENCE_SECONDS.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            begun = time.monotonic()
            try:
                answer = self._http.post(
                    "/adapt",
                    files={"archive": ("shots.zip", archive)},
                    data={"name": key, "config": json.dumps(config)},
                    headers={"Idempotency-Key": key},
                )
                if answer.status_code < 500:
                    answer.raise_for_status()
                    self._note(key, answer, time.monotonic() - begun)
                    job_id: str = answer.json()["id"]
                    return job_id
                if time.monotonic() > until:
                    answer.raise_for_status()
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
            with self._lock:
                self.retries += 1
            time.sleep(0.3)

    def job(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.get(f"/jobs/{job_id}").raise_for_status().json()
        return answer

    def cancel(self, job_id: str) -> int:
        """Cancel a job. Return the status: 202, or 409 if the job has ended."""
        self.cancelled.add(job_id)
        return self._http.post(f"/jobs/{job_id}/cancel").status_code

    def _note(self, key: str, answer: httpx.Response, seconds: float) -> None:
        job_id = answer.json()["id"]
        with self._lock:
            self.accepted[key] = job_id
            self.seconds.append(seconds)
            self.replayed += answer.headers.get("idempotency-replayed") == "true"
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"key": key, "job_id": job_id, "seconds": seconds}) + "\n")


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
