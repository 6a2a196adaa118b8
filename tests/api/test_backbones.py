"""GET /backbones, downloads and the default."""

from typing import Any

import httpx
import pytest
from sqlalchemy import delete, update

from core.clip.models import backbones as installed
from core.clip.models.backbone import Backbone
from core.store import backbones
from core.store.accounts import api_keys
from core.store.db.tables import Model
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, shots
from tests.api.serving.adapted import publish_model
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub

TINY = "hf-hub:tests/tiny"
OWNERS = ("default", "team-a")


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


def test_at_most_ten_downloads_wait(open_service: Service) -> None:
    names = [f"hf-hub:tests/{i}" for i in range(12)]
    answers = [open_service.client.post(f"/backbones/{name}/pull") for name in names]
    assert [answer.status_code for answer in answers] == [202] * 10 + [409] * 2
    assert_problem(answers[-1], 409, "too_many_downloads", "Stop one")
    assert open_service.client.post(f"/backbones/{names[0]}/pull").status_code == 202  # as before
    with open_service.database.write() as session:
        backbones.end_pull(session, open_service.settings, names[1], "The hub is down.")
    assert open_service.client.post(f"/backbones/{names[10]}/pull").status_code == 202
    assert_problem(open_service.client.post(f"/backbones/{names[1]}/pull"), 409, "too_many_downloads")


def test_an_unknown_name_is_refused(open_service: Service) -> None:
    for name in ("ViT-X/none", "local-dir:X", "local-dir:/etc/openai"):
        assert_problem(open_service.client.post(f"/backbones/{name}/pull"), 422, "unknown_backbone")
    answer = open_service.client.put("/backbones/default", json={"name": "ViT-B-16/openai"})
    assert_problem(answer, 422, "unknown_backbone", "not installed")


def test_only_the_operator_changes_what_all_owners_share(make_service: MakeService) -> None:
    service = make_service(admin_key="operator")
    service.settings.__pydantic_fields_set__.discard("backbone")
    with service.database.write() as session:
        keys = {owner: api_keys.create(session, owner=owner, scopes=["admin"]).key for owner in OWNERS}
    name = "ViT-B-16/openai"
    for method, path, given in (
        ("POST", f"/backbones/{name}/pull", {"params": {"use": True}}),
        ("PUT", "/backbones/default", {"json": {"name": "starter"}}),
        ("DELETE", f"/backbones/{name}/pull", {}),
        ("DELETE", f"/backbones/{name}", {}),
    ):
        answers = {
            owner: service.client.request(method, path, headers={"Authorization": f"Bearer {key}"}, **given)
            for owner, key in {**keys, "admin_key": "operator"}.items()
        }
        assert_problem(answers.pop("team-a"), 403, "operator_only", "only its operator")
        assert 403 not in {answer.status_code for answer in answers.values()}
    fixed = {
        owner: service.client.get("/backbones", headers={"Authorization": f"Bearer {key}"}).json()["fixed"]
        for owner, key in keys.items()
    }
    assert fixed == {"default": False, "team-a": True}


def test_a_backbone_is_removed_unless_it_is_needed(
    open_service: Service, backbone: Backbone, tmp_path: Any
) -> None:
    make_tiny_backbone(tmp_path / "repository")
    installed.import_folder(tmp_path / "repository", open_service.settings.cache, TINY)
    job = open_service.accepted(**shots(), config=f'{{"backbone": "{TINY}"}}')["id"]
    model = publish_model(open_service.database, open_service.blobs, backbone, owner="default")
    with open_service.database.write() as session:
        session.execute(update(Model).values(backbone=TINY))

    def removed() -> httpx.Response:
        return open_service.client.delete(f"/backbones/{TINY}")

    assert_problem(removed(), 409, "backbone_in_use", f"{model} of default, {job} of default")
    assert open_service.client.post(f"/jobs/{job}/cancel").status_code == 202
    with open_service.database.write() as session:
        session.execute(delete(Model))
        backbones.set_default(session, open_service.settings, TINY)
    assert_problem(removed(), 409, "backbone_in_use", "is the model for new trainings")
    assert open_service.client.put("/backbones/default", json={"name": "starter"}).status_code == 200
    assert removed().status_code == 204
    assert installed.read(TINY, open_service.settings.cache) is None
    assert_problem(removed(), 422, "unknown_backbone", "not installed")


def test_a_job_with_an_unknown_backbone_gets_the_error_of_a_download(open_service: Service) -> None:
    pulled = open_service.client.post("/backbones/resnet50/pull").json()["detail"]
    answer = open_service.adapt(**shots(), config='{"backbone": "resnet50"}')
    assert_problem(answer, 422, "unknown_backbone", "There is no backbone 'resnet50'")
    assert answer.json()["detail"] == pulled
    answer = open_service.adapt(**shots(), config='{"backbone": "ViT-B-16/openai"}')
    assert_problem(answer, 422, "unknown_backbone", "'ViT-B-16/openai' is not installed here")


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
