"""The server's words reach the user."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import numpy as np
import pytest

from demo import calls as calls_module
from demo.calls import Calls
from demo.failure import DemoFailed
from demo.pictures import Picture, Pictures
from demo.service import Service, _environment

PICTURES = [Picture("a", f"{i}.png", b"x") for i in range(70)]


@pytest.fixture
def make_calls(tmp_path: Path) -> Any:
    (tmp_path / "log").write_text("first line\nlast line\n")

    def make(answer: Callable[[httpx.Request], httpx.Response], exit_status: int | None = None) -> Calls:
        process = Popen([sys.executable, "-c", f"raise SystemExit({exit_status or 0})"])
        process.wait()
        if exit_status is None:
            process.returncode = None
            process.poll = lambda: None  # type: ignore[method-assign]
        service = Service("http://demo", process, tmp_path / "log")
        client = httpx.Client(base_url=service.url, transport=httpx.MockTransport(answer))
        return Calls(service, client)

    return make


def problem(status: int, code: str, **fields: Any) -> httpx.Response:
    body = {"code": code, "detail": "Do this.", **fields}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def test_every_bad_picture_is_named(make_calls: Any) -> None:
    errors = [{"file": "train/a/0.png", "detail": "It is empty."}, {"pointer": "/x", "detail": "Unknown."}]
    calls = make_calls(lambda request: problem(422, "bad_pictures", errors=errors))
    with pytest.raises(DemoFailed, match=r"422 bad_pictures\): Do this") as failure:
        calls.adapt(Pictures(tuple(PICTURES), ()), "demo", {})
    assert failure.value.advice.splitlines() == ["  train/a/0.png: It is empty.", "  /x: Unknown."]


def test_failed_job(make_calls: Any) -> None:
    job = {"status": "failed", "error": {"code": "out_of_memory", "detail": "Use a smaller batch_size."}}
    calls = make_calls(lambda request: httpx.Response(200, json=job))
    with pytest.raises(DemoFailed, match=r"Use a smaller batch_size. \(out_of_memory") as failure:
        list(calls.follow("job_1"))
    assert "last line" in failure.value.advice


def test_scores_come_back_in_the_order_of_the_names(make_calls: Any) -> None:
    sizes = []

    def answer(request: httpx.Request) -> httpx.Response:
        count = request.content.count(b'name="images"')
        sizes.append(count)
        predictions = [
            {"class_name": "b", "similarity": 0.5, "probability": 0.9},
            {"class_name": "a", "similarity": 0.25, "probability": 0.1},
        ]
        names = [{"name": "a", "offset": 0.125}, {"name": "b", "offset": 0.0}]
        results = [{"predictions": predictions}] * count
        return httpx.Response(200, json={"class_names": names, "results": results})

    done: list[int] = []
    answers = make_calls(answer).classify(PICTURES, ["a", "b"], "stock", done.append)
    assert sizes == done == [64, 6]
    assert answers.scores.shape == (70, 2)
    assert np.array_equal(answers.scores[-1], np.float32([0.125, 0.5]))
    assert np.array_equal(answers.probabilities[0], np.float32([0.1, 0.9]))


def test_a_cold_model_is_asked_again(make_calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module.time, "sleep", lambda seconds: None)
    one = {"predictions": [{"class_name": "a", "similarity": 0.5, "probability": 1.0}]}
    names = [{"name": "a", "offset": 0.0}]
    answers = [
        problem(503, "model_loading"),
        httpx.Response(200, json={"class_names": names, "results": [one]}),
    ]
    calls = make_calls(lambda request: answers.pop(0))
    assert calls.classify(PICTURES[:1], ["a"], "mdl_1").scores[0, 0] == 0.5


def test_service_that_ended(make_calls: Any) -> None:
    calls = make_calls(lambda request: httpx.Response(200), exit_status=3)
    with pytest.raises(DemoFailed, match="ended with status 3") as failure:
        calls.wait_until_ready(seconds=5, backbone_seconds=5)
    assert "last line" in failure.value.advice


def test_service_that_never_answers(make_calls: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(DemoFailed, match="not ready after"):
        make_calls(answer).wait_until_ready(seconds=0, backbone_seconds=0)


def test_backbone_without_a_hub(make_calls: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return httpx.Response(503, content=json.dumps({"status": "unavailable"}))
        return problem(503, "backbone_unavailable")

    with pytest.raises(DemoFailed, match="Do this") as failure:
        make_calls(answer).wait_until_ready(seconds=5, backbone_seconds=5)
    assert "starter" in failure.value.advice


def test_a_service_set_up_here_is_left_alone() -> None:
    ours = {
        "PATH": "/bin",
        "CLIPCITE_DATABASE_URL": "postgresql://production",
        "CLIPCITE_API_KEY": "secret",
        "CLIPCITE_HOST": "0.0.0.0",
        "CLIPCITE_BACKBONE": "ViT-B-16/openai",
    }
    assert _environment(ours) == {"PATH": "/bin", "CLIPCITE_BACKBONE": "ViT-B-16/openai"}
