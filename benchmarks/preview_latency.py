"""Latency of the instant preview: from the end of POST /adapt to the first prediction under the job's id.

    python -m benchmarks.preview_latency --data clothing stamps

Measured on the whole service, whose worker meanwhile starts to train. The service is warm: it has run one job
before.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from demo.service import running_service

RETRY_SECONDS = 0.02


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=3, help="number of jobs per data set (default 3)")
    options = parser.parse_args(arguments)
    print("| images | training images | POST /adapt, s | first answer, s | next answer, s |")
    with (
        running_service() as service,
        httpx.Client(
            base_url=service.url,
            headers={"Authorization": f"Bearer {service.key}"},
            timeout=300,
            trust_env=False,
        ) as client,
    ):
        service.wait_until_ready(seconds=90, backbone_seconds=180)
        for number, folder in enumerate(options.data):
            data = load(folder)
            if not number:
                first_answers(client, data, 1)  # the worker's trainer, the prompts
            for _ in range(options.jobs):
                images, seconds = first_answers(client, data, options.shots)
                cells = " | ".join(f"{value:.2f}" for value in seconds)
                print(f"| {data.name} | {images} | {cells} |", flush=True)


def first_answers(client: httpx.Client, data: DataSet, shots: int) -> tuple[int, list[float]]:
    """Return the number of training images, and the seconds of the upload and of two answers."""
    examples = draw_shots(data.train, range(len(data.class_names)), shots, 0)
    with ExitStack() as files:
        images = [("images", (e.path.name, files.enter_context(e.path.open("rb")))) for e in examples]
        labels = [data.class_names[e.label] for e in examples]
        moments = [time.monotonic()]
        job = _good(client.post("/adapt", files=images, data={"labels": labels}))
        moments.append(time.monotonic())
    for _ in range(2):
        answer = _first(client, job["id"], data)
        assert answer["preview"], "The model was ready before its preview."
        moments.append(time.monotonic())
    _good(client.post(f"/jobs/{job['id']}/cancel"))
    ended = _good(client.get(f"/jobs/{job['id']}", params={"wait": 60}))
    assert ended["status"] == "cancelled", ended["status"]
    _good(client.delete(f"/jobs/{job['id']}"))
    return len(examples), [after - before for before, after in pairwise(moments)]


def _first(client: httpx.Client, job_id: str, data: DataSet) -> dict[str, Any]:
    content = data.test[0].path.read_bytes()
    while True:
        answer = client.post(
            "/classify",
            files=[("images", ("a.jpg", content))],
            data={"model": job_id, "class_names": list(data.class_names)},
        )
        if answer.status_code != 503:
            return _good(answer)
        time.sleep(RETRY_SECONDS)


def _good(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise SystemExit(f"{answer.request.url}: {answer.status_code}, {answer.text}")
    good: dict[str, Any] = answer.json() if answer.content else {}
    return good


if __name__ == "__main__":
    main()
