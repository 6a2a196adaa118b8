"""A real Label Studio server with `clipcite label-studio` as its ML backend."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from clipcite import Client
from tests.neighbours.conftest import CLASSES, Neighbours
from tests.service.running import ROOT, wait_for

BINARY = ROOT / ".venv-label-studio" / "bin" / "label-studio"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind" toName="image"><Choice value="boot"/><Choice value="sandal"/></Choices></View>"""


@contextmanager
def running(command: list[Any], ready: str, **environment: str) -> Iterator[Callable[[], str]]:
    """Run a program until it prints `ready`. Yield a function that returns what it has printed."""
    said: list[str] = []
    known = {**os.environ, **environment}
    process = subprocess.Popen(
        command, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True).start()
    try:
        wait_for(lambda: re.search(ready, "".join(said)), unless=lambda: process.poll() is not None)
        yield lambda: "".join(said)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    """Yield a client of a new Label Studio on SQLite."""
    if not BINARY.exists():
        pytest.fail("Label Studio is missing. Run: make test-neighbours", pytrace=False)
    options = ["--no-browser", "--internal-host", "127.0.0.1", "--port", "8129", "--data-dir", tmp_path]
    account = ["--username", "ana@example.org", "--password", "secretsecret", "--user-token", TOKEN]
    settings = {"LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "HOME": str(tmp_path)}
    settings |= {"ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false"}
    with running([BINARY, "start", *options, *account], "Quit the server|development server", **settings):
        headers = {"Authorization": f"Token {TOKEN}"}
        with httpx.Client(base_url="http://127.0.0.1:8129", headers=headers, timeout=600) as http:
            wait_for(lambda: _answers(http), seconds=120)
            yield http


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx.ConnectError:
        return False


def test_predictions_and_training(
    server: httpx.Client, neighbours: Neighbours, client: Client, folder: Path
) -> None:
    command = [sys.executable, "-m", "clipcite", "label-studio", "--model", "shoes@labelled"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    address = ["--listen", listen, "--server", str(server.base_url), "--retrain-after", "8"]
    access = {"CLIPCITE_URL": neighbours.url, "CLIPCITE_API_KEY": neighbours.key, "PYTHONUNBUFFERED": "1"}
    first = client.models.get("shoes@1").id
    client.aliases.promote("shoes", "labelled", first)

    def post(path: str, **sent: Any) -> Any:
        return server.post(path, **sent).raise_for_status().json()

    with running([*command, *address], "Listening at", **access) as said:
        backend = f"http://{listen}"
        project = post("/api/projects", json={"title": "shoes", "label_config": CONFIG})["id"]
        images = [folder / name / f"{i}.jpg" for name in CLASSES for i in range(4)]
        for image in images:
            post(f"/api/projects/{project}/import", files={"file": (image.name, image.read_bytes())})
        post("/api/ml", json={"url": backend, "project": project, "title": "clipcite"})
        listed = server.get("/api/tasks", params={"project": project}).json()["tasks"]
        tasks = sorted(listed, key=lambda task: task["id"])
        assert len(tasks) == len(images) == 8
        post(
            "/api/dm/actions", params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": True, "excluded": []}},
        )  # fmt: skip
        predictions = [server.get(f"/api/tasks/{task['id']}").json()["predictions"][-1] for task in tasks]
        for image, prediction in zip(images, predictions, strict=True):
            best = client.classify(image, ["boot", "sandal"], model=first).results[0].predictions[0]
            assert prediction["model_version"] == first
            assert prediction["result"][0]["value"]["choices"] == [best.class_name]
            assert prediction["score"] == pytest.approx(best.probability, abs=1e-5)
        wanted = {"project": project, "url": f"{backend}/webhook", "send_for_all_actions": True}
        post("/api/webhooks/", json=wanted | {"send_payload": True})
        for image, task in zip(images, tasks, strict=True):
            assert "shoes@labelled is mdl_" not in said().partition("\n")[2]
            label = {"from_name": "kind", "to_name": "image", "type": "choices"}
            result = [{**label, "value": {"choices": [image.parent.name]}}]
            post(f"/api/tasks/{task['id']}/annotations", json={"result": result})
        wait_for(lambda: said().count("shoes@labelled is mdl_") == 2, seconds=200, explain=said)
        second = client.models.get("shoes@labelled").id
        assert second != first
        assert sorted(client.models.get(second).trained_classes) == list(CLASSES)
        [connected] = server.get("/api/ml", params={"project": project}).json()
        server.post(f"/api/ml/{connected['id']}/train", json={}).raise_for_status()
        wait_for(lambda: said().count("shoes@labelled is mdl_") == 3, seconds=200, explain=said)
        assert client.models.get("shoes@labelled").id not in {first, second}
