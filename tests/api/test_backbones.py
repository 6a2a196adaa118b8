"""GET /backbones, downloads and the default."""

from typing import Any

import pytest

from core.clip.models import installed
from core.store import backbones
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, shots
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub

TINY = "hf-hub:tests/tiny"


@pytest.fixture
def open_service(make_service: MakeService) -> Service:
    """Return a service whose default backbone no environment sets."""
    service = make_service()
    service.settings.__pydantic_fields_set__.discard("backbone")
    return service


def row(service: Service, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        row for row in service.client.get("/backbones").json()["data"] if row["name"] == name
    )
    return found


def test_the_list_has_the_starter_and_four_described_ones(open_service: Service) -> None:
    listed = open_service.client.get("/backbones").json()
    names = [row["name"] for row in listed["data"]]
    assert names[:5] == [
        *("starter", "ViT-B-16/openai", "ViT-B-32/openai", "ViT-L-14/openai", "ViT-B-16-SigLIP2/webli")
    ]
    clip = row(open_service, "ViT-B-16/openai")
    assert (clip["title"], clip["license"], clip["state"]) == ("CLIP ViT-B/16", "MIT", "available")
    assert clip["serving_bytes"] < clip["training_bytes"]
    assert clip["seconds_per_100_images"] > 0
    assert row(open_service, "starter")["state"] == "installed"
    assert [row["name"] for row in listed["data"] if row["default"]] == [open_service.settings.backbone]
    assert not listed["fixed"]


def test_a_download_is_requested_once_fails_and_is_stopped(open_service: Service) -> None:
    name = "ViT-B-16/openai"
    for use in (False, True):
        answer = open_service.client.post(f"/backbones/{name}/pull", params={"use": use})
        assert (answer.status_code, answer.json()["state"]) == (202, "downloading")
    with open_service.database.write() as session:
        [pull] = backbones.pulls(session)
        assert pull.use
        backbones.end_pull(session, open_service.settings, name, "The hub is down.")
    failed = row(open_service, name)
    assert (failed["state"], failed["error"]) == ("failed", "The hub is down.")
    open_service.client.post(f"/backbones/{name}/pull")
    assert row(open_service, name)["state"] == "downloading"
    assert open_service.client.delete(f"/backbones/{name}/pull").status_code == 204
    assert row(open_service, name)["state"] == "available"
    assert open_service.client.delete(f"/backbones/{name}/pull").status_code == 204


def test_an_unknown_name_is_refused(open_service: Service) -> None:
    assert_problem(open_service.client.post("/backbones/ViT-X/none/pull"), 422, "unknown_backbone")
    answer = open_service.client.put("/backbones/default", json={"name": "ViT-B-16/openai"})
    assert_problem(answer, 422, "unknown_backbone", "not installed")


def test_the_environment_has_the_last_word(fresh: Service) -> None:
    assert fresh.client.get("/backbones").json()["fixed"]
    answer = fresh.client.put("/backbones/default", json={"name": "starter"})
    assert_problem(answer, 409, "set_by_environment", "CLIPCITE_BACKBONE")


@pytest.mark.slow
def test_an_installed_backbone_becomes_the_default_without_a_restart(
    open_service: Service, hub: Hub, tmp_path: Any
) -> None:
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    serving, cache = open_service.app.state.serving, open_service.settings.cache
    assert serving._load_default() is None
    before = serving.default_backbone
    installed.install(TINY, cache)
    assert row(open_service, TINY)["state"] == "installed"
    assert open_service.client.put("/backbones/default", json={"name": TINY}).status_code == 200
    assert row(open_service, TINY)["default"]
    assert serving.default_backbone == before  # until the new one is in memory
    assert serving._load_default() is None
    assert serving.default_backbone == TINY
    assert open_service.client.get("/readyz").json()["backbone"] == TINY
    with open_service.database.write() as session:
        backbones.request_pull(session, TINY, use=True)
        assert backbones.default(session, open_service.settings) == TINY
    installed.remove(TINY, cache)
    assert serving._load_default() is None
    assert serving.default_backbone == before
    answer = open_service.adapt(**shots())
    assert_problem(answer, 422, "unknown_backbone", "clipcite backbones use")
