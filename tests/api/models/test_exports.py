"""GET /models/{id}/export. tests/core/clip/export/test_export.py loads the exports with open_clip and
onnxruntime.
"""

import asyncio
import io
import json
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
import torch
from safetensors.torch import load
from starlette.responses import StreamingResponse
from starlette.types import Message

from api.models.routes import export_model
from clipcite.types.models import ExportFormat
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import encode
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.registry import models
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem
from tests.api.serving.adapted import moved, publish_model


def exported(service: Service, model: str, **query: object) -> zipfile.ZipFile:
    response = service.client.get(f"/models/{model}/export", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    assert int(response.headers["content-length"]) == len(response.content)
    assert f"{model}-" in response.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    return archive


def test_the_model_at_the_requested_alpha(fresh: Service, backbone: Backbone) -> None:
    theta_0, theta_1 = tower_parameters(backbone.model), moved(backbone)
    model = publish_model(
        fresh.database, fresh.blobs, backbone, theta_1=theta_1, alpha=0.6, delta_format="4bit"
    )
    delta = encode(theta_0, theta_1, "4bit")
    for query, alpha in (({}, 0.6), ({"alpha": 0}, 0.0), ({"alpha": 0.29}, 0.29), ({"alpha": 1}, 1.0)):
        archive = exported(fresh, model, **query)
        state = load(archive.read("open_clip_model.safetensors"))
        assert all(torch.equal(state[name], t) for name, t in delta.theta(theta_0, alpha).items())
        about = json.loads(archive.read("clipcite.json"))
        assert (about["alpha"], about["delta_format"], about["id"]) == (alpha, "4bit", model)
        assert f"α = {alpha}" in archive.read("README.md").decode()
    assert fresh.temp_files() == []


def test_a_delta_is_the_stored_files(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone, delta_format="4bit")
    archive = exported(fresh, model, format="delta")
    with fresh.database.read() as session:
        row = models.get(session, model, owner=DEFAULT_OWNER)
    assert archive.read("weights.safetensors") == fresh.blobs.get(row.weights_key)
    assert archive.read("manifest.json") == fresh.blobs.get(row.manifest_key)
    assert set(archive.namelist()) == {"weights.safetensors", "manifest.json", "clipcite.json", "README.md"}


def test_impossible_exports(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    for name, value in (("alpha", 1.01), ("format", "pt")):
        response = fresh.client.get(f"/models/{model}/export", params={name: value})
        assert_problem(response, 422, "invalid_request", errors=[{"pointer": f"/{name}"}])


def test_a_damaged_model(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    fresh.blobs.put(f"models/{model}/weights.safetensors", b"damaged")
    assert_problem(fresh.client.get(f"/models/{model}/export"), 503, "model_unavailable", "SHA-256")
    response = fresh.client.get(f"/models/{model}/export", params={"format": "delta"})
    assert_problem(response, 503, "blob_damaged", "[Rr]estore")
    assert fresh.temp_files() == []


async def send(response: StreamingResponse) -> None:
    async def forget(_message: Message) -> None: ...

    async def disconnect() -> Message:
        return {"type": "http.disconnect"}

    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, disconnect, forget)


def test_exports_that_nobody_reads_are_limited(make_service: MakeService, backbone: Backbone) -> None:
    """An owner has half of the space for temporary files, and one export may take all of it."""
    service = make_service(max_request_bytes=1_000)
    model = publish_model(service.database, service.blobs, backbone)
    state = service.app.state

    def export() -> StreamingResponse:
        given = {
            "serving": state.serving,
            "scratch": state.scratch,
            "owner": DEFAULT_OWNER,
            "model_id": model,
        }
        return export_model.__wrapped__(**given)

    unread = export()
    assert_problem(service.client.get(f"/models/{model}/export"), 503, "busy", "exports")
    asyncio.run(send(unread))
    exported(service, model)
    unread = export()
    del unread  # the client went away before the first byte
    exported(service, model)
    assert service.temp_files() == []


def test_without_the_extra(fresh: Service, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    response = fresh.client.get(f"/models/{model}/export", params={"format": "onnx"})
    assert_problem(response, 501, "onnx_not_installed", "pip install")


@pytest.mark.slow
@pytest.mark.parametrize("format", get_args(ExportFormat))
def test_every_format_describes_the_model(fresh: Service, backbone: Backbone, format: str) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    archive = exported(fresh, model, format=format)
    assert json.loads(archive.read("clipcite.json"))["id"] == model
    assert f"`{model}`" in archive.read("README.md").decode()


@pytest.mark.slow
def test_onnx(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    with ThreadPoolExecutor() as threads:
        export = threads.submit(exported, fresh, model, format="onnx")
        files = {"images": ("a.jpg", crafted.jpeg())}
        classified = [
            fresh.client.post("/classify", data={"class_names": ["red"], "model": model}, files=files)
            for _ in iter(export.done, True)
        ]
    assert {answer.status_code for answer in classified} == {200}  # they share no state with the export
    names = set(export.result().namelist())
    assert names == {"image.onnx", "text.onnx", "onnx.json", "classes.npz", "clipcite.json", "README.md"}
