"""The HTTP calls of the demo, and the server's words when one fails."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.failure import DemoFailed
from demo.pictures import Picture, Pictures, write_archive
from demo.service import Service

CHUNK = 64
"""Pictures in one request, the most that the service takes."""
POLL_SECONDS = 0.3
ENDED = {"succeeded", "failed", "cancelled"}
COLD_SECONDS = 120
"""So long a model may take to load before its first answer."""


@dataclass(frozen=True)
class Answers:
    """One model's answers to N pictures with C names."""

    scores: NDArray[np.float32]
    """[N, C], what the service ranks by: similarities less the offset of each name."""
    probabilities: NDArray[np.float32]  # [N, C], over all C names


class Calls:
    def __init__(self, service: Service, client: httpx.Client) -> None:
        self._service = service
        self._client = client

    def wait_until_ready(self, *, seconds: float, backbone_seconds: float) -> None:
        """Until the service answers (`seconds`) and its backbone is loaded (`backbone_seconds`)."""
        started = time.monotonic()
        alive = False
        while True:
            if self._service.exit_status is not None:
                raise self._no_service(f"The service ended with status {self._service.exit_status}.")
            reason = "It does not answer."
            try:
                ready = self._client.get("/readyz", timeout=5)
                alive = True
                if ready.is_success:
                    return
                reason = self._backbone_problem() or "It is still loading."
            except httpx.HTTPError:
                pass
            waited = time.monotonic() - started
            if waited > (max(seconds, backbone_seconds) if alive else seconds):
                raise self._no_service(f"The service is not ready after {waited:.0f} s. {reason}")
            time.sleep(POLL_SECONDS)

    def _backbone_problem(self) -> str | None:
        """What is wrong with the backbone beyond that it is still loading: a request needs it, so its
        answer says. Raises DemoFailed where waiting is of no use."""
        data = BytesIO()
        Image.new("RGB", (8, 8)).save(data, "PNG")
        answer = self._client.post(
            "/classify", data={"class_names": ["a", "b"]}, files=[("images", ("dot.png", data.getvalue()))]
        )
        if answer.is_success or _problem(answer).get("code") == "model_loading":
            return None
        if answer.status_code < 500 or _problem(answer).get("code") == "backbone_unavailable":
            failed = self._refused("The backbone can't be used", answer)
            raise DemoFailed(
                failed.what, "Without CLIPCITE_BACKBONE the demo takes the starter: no model hub."
            )
        return str(_problem(answer).get("detail"))

    def adapt(self, pictures: Pictures, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """POST /adapt: the job."""
        with tempfile.TemporaryFile() as file:
            write_archive(pictures, file)
            file.seek(0)
            job: dict[str, Any] = self._ask(
                "POST",
                "/adapt",
                "The upload was refused",
                data={"name": name, "config": json.dumps(config)},
                files={"archive": ("pictures.zip", file, "application/zip")},
            )
        return job

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job again and again, the last time when it has ended well.

        Raises:
            DemoFailed: it ended otherwise.
        """
        while True:
            job: dict[str, Any] = self._ask("GET", f"/jobs/{job_id}", "The job can't be read")
            if job["status"] in ENDED - {"succeeded"}:
                error = job["error"] or {"code": job["status"], "detail": f"The job was {job['status']}."}
                raise DemoFailed(
                    f"The job {job['status']}: {error['detail']} ({error['code']})",
                    f"The end of the service's log:\n{self._service.last_words()}",
                )
            yield job
            if job["status"] in ENDED:
                return
            time.sleep(POLL_SECONDS)

    def classify(
        self,
        pictures: Sequence[Picture],
        names: Sequence[str],
        model: str,
        on_chunk: Callable[[int], None] = lambda done: None,
    ) -> Answers:
        """POST /classify in chunks, all names each time; `on_chunk` hears how many were just done."""
        column = {name: i for i, name in enumerate(names)}
        scores = np.zeros((len(pictures), len(names)), np.float32)
        probabilities = np.zeros_like(scores)
        for start in range(0, len(pictures), CHUNK):
            chunk = pictures[start : start + CHUNK]
            files = [("images", (f"{start + i:05d}", picture.read())) for i, picture in enumerate(chunk)]
            answer = self._ask(
                "POST",
                "/classify",
                "The classification was refused",
                data={"class_names": json.dumps(list(names)), "model": model},
                files=files,
            )
            offset = {entry["name"]: entry["offset"] for entry in answer["class_names"]}
            for row, (picture, result) in enumerate(zip(chunk, answer["results"], strict=True), start):
                if result["predictions"] is None:
                    raise DemoFailed(
                        f"The picture {picture.name} of the class {picture.class_name} can't be used: "
                        f"{result['error']['detail']}",
                        "Replace or remove it.",
                    )
                for prediction in result["predictions"]:
                    name = prediction["class_name"]
                    scores[row, column[name]] = prediction["similarity"] - offset[name]
                    probabilities[row, column[name]] = prediction["probability"]
            on_chunk(len(chunk))
        return Answers(scores, probabilities)

    def _ask(self, method: str, path: str, when_refused: str, **request: Any) -> Any:
        until = time.monotonic() + COLD_SECONDS
        while True:
            try:
                answer = self._client.request(method, path, **request)
            except httpx.HTTPError as error:
                raise self._no_service(
                    f"{method} {path} got no answer ({type(error).__name__}: {error})."
                ) from error
            if answer.is_success:
                return answer.json()
            cold = answer.status_code == 503 and method == "POST" and path == "/classify"
            if not cold or time.monotonic() > until:
                raise self._refused(when_refused, answer)
            time.sleep(min(float(answer.headers.get("Retry-After", 2)), 10))

    def _no_service(self, what: str) -> DemoFailed:
        return DemoFailed(what, f"The end of its log:\n{self._service.last_words()}")

    def _refused(self, when: str, answer: httpx.Response) -> DemoFailed:
        problem = _problem(answer)
        what = f"{when} ({answer.status_code} {problem.get('code', answer.reason_phrase)})"
        items = [
            f"  {item.get('file') or item.get('pointer') or ''}: {item['detail']}"
            for item in problem.get("errors", [])[:20]
        ]
        said = str(problem.get("detail") or answer.text[:500])
        if answer.status_code == 500:  # the others say what to do
            items.append(f"The end of the service's log:\n{self._service.last_words()}")
        return DemoFailed(f"{what}: {said}", "\n".join(items))


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """The fields of an `application/problem+json` answer; empty for another one."""
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
