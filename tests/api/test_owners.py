"""Two owners on every route: no request of one shows or changes data of the other.

The routes are those of the OpenAPI document. One that needs a body to be refused has a case here.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from tests.api import crafted
from tests.api.middleware.test_auth import ENDPOINTS
from tests.api.service import Service, assert_problem, form, shots
from tests.api.serving.adapted import publish_model
from tests.core.clip.reports import held_out, report_fields
from tests.core.store import samples

UNKNOWN = {
    "job": "job_01m8879efspbrp0fvcbr51d4g1",
    "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "name": "no such foxes",
    "alias": "nowhere",
}
IMAGE = ("images", ("a.jpg", crafted.jpeg()))
SECRETS = ("secret foxes", "secret fox", "secret-fox", "secret sentence")


@dataclass
class World:
    service: Service
    mine: dict[str, str]
    theirs: dict[str, str]

    def call(self, who: dict[str, str], method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {who['key']}", **given.pop("headers", {})}
        return self.service.client.request(method, path, headers=headers, **given)


NewService = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="module")
def world(new_service: NewService, backbone: Backbone) -> Iterator[World]:
    """Return two owners for tests that change nothing of the first."""
    with two_owners(new_service, backbone) as made:
        yield made


@contextmanager
def two_owners(new_service: NewService, backbone: Backbone) -> Iterator[World]:
    """Create two owners. The first has a queued, a running and a finished job, and a model in memory."""
    with new_service() as service:
        teams = []
        for owner in ("team-a", "team-b"):
            with service.database.write() as session:
                teams.append({"key": api_keys.create(session, owner=owner, scopes=["admin"]).key})
        mine, theirs = teams
        made = World(service, mine, theirs)
        upload = shots(("secret fox", "badger"))
        upload["images"] = [(f"secret-fox-{i}.jpg", data) for i, (_, data) in enumerate(upload["images"])]
        config = {"prompts": {"secret fox": ["a secret sentence"]}}
        answer = made.call(mine, "POST", "/adapt", **form(**upload, name="secret foxes", config=config))
        assert answer.status_code == 202, answer.text
        mine["job"] = answer.json()["id"]
        mine["model"] = publish_model(
            service.database,
            service.blobs,
            backbone,
            owner="team-a",
            name="secret foxes",
            classes=["secret fox", "badger"],
            prompts={"secret fox": ["a secret sentence"]},
        )
        warm = made.call(mine, "POST", "/classify", **classify(mine["model"]))
        assert warm.status_code == 200, warm.text
        mine |= {"name": "secret foxes", "alias": "secret-alias"}
        for _ in range(2):  # A second version to promote, so that a rollback is possible.
            latest = publish_model(
                service.database, service.blobs, backbone, owner="team-a", name="secret foxes"
            )
            body = {"json": {"model": latest}}
            promoted = made.call(mine, "PUT", "/models/secret foxes/aliases/secret-alias", **body)
            assert promoted.status_code == 200, promoted.text
        mine["ended"] = made.call(mine, "GET", f"/models/{mine['model']}").json()["job_id"]
        metrics, written = {"verdict": "better"}, report_fields(held_out())
        samples.store_report(service.database, service.blobs, mine["ended"], written, metrics)
        yield made


def classify(model: str) -> dict[str, Any]:
    return {"data": {"class_names": ["secret fox", "oak"], "model": model}, "files": [IMAGE]}


def collection(model: str) -> dict[str, Any]:
    return {"json": {"model": model, "features": [base64.b64encode(bytes(64)).decode()]}}


def own_images(_: str) -> dict[str, Any]:
    return form(**shots())


def no_model(_: str) -> dict[str, Any]:
    return {"files": [("archive", ("model.zip", crafted.zip_of({"a.txt": b"nothing"})))]}


def no_changes(_: str) -> dict[str, Any]:
    return {"json": {}}


def promotion(model: str) -> dict[str, Any]:
    return {"json": {"model": model}}


def renaming(model: str) -> dict[str, Any]:
    return {"json": {"name": "secret foxes"}}


Case = dict[str, Any]
BACKBONES = {"/backbones", "/backbones/default", "/backbones/{name}", "/backbones/{name}/pull"}
SAME = {"/samples", "/samples/{name}.zip", *BACKBONES}
"""Routes that are the same for all owners."""
# Requests of the second owner, with the first owner's ids in the path or the body.
CASES: dict[tuple[str, str], Case] = {
    **{route: {"status": 404} for route in ENDPOINTS if route[1] not in SAME},
    ("POST", "/adapt"): {"status": 202, "given": own_images},
    ("GET", "/jobs"): {"status": 200, "cursor": "job"},
    ("POST", "/jobs/{job_id}/retrain"): {"status": 404, "given": no_changes},
    ("GET", "/models"): {"status": 200, "cursor": "model"},
    ("PATCH", "/models/{model_id}"): {"status": 404, "given": renaming},
    ("POST", "/models"): {"status": 422, "given": no_model},
    ("POST", "/models/{model_id}/extend"): {"status": 404, "given": own_images},
    ("POST", "/models/{model_id}/evaluate"): {"status": 404, "given": own_images},
    ("POST", "/models/{model_id}/feedback"): {"status": 404, "given": own_images},
    ("PUT", "/models/{name}/aliases/{alias}"): {"status": 404, "given": promotion},
    ("POST", "/classify"): {"status": 404, "given": classify},
    ("POST", "/classify/collection"): {"status": 404, "given": collection},
    ("GET", "/metrics"): {"status": 200},
}


CORRECT = ("POST", "/models/{model_id}/feedback")


def filled(path: str, ids: dict[str, str]) -> str:
    return path.format(
        job_id=ids["job"],
        model_id=ids["model"],
        name=ids["name"],
        alias=ids["alias"],
        position=0,
        feedback_id=ids.get("feedback", "fbk_x"),
    )


def send(world: World, route: tuple[str, str], ids: dict[str, str], **headers: str) -> httpx.Response:
    """Send the second owner's request with these ids."""
    method, path = route
    given = CASES[route].get("given")
    body = given(ids["model"]) if given else {}
    return world.call(world.theirs, method, filled(path, ids), headers=headers, **body)


def without(said: str, ids: dict[str, str]) -> str:
    for name in ("job", "model", "name", "alias"):
        said = said.replace(ids[name], name).replace(quote(ids[name]), name)
    return said


@pytest.mark.parametrize(
    ("route", "accept"),
    [
        *((route, "application/json") for route in sorted(CASES)),
        (("GET", "/jobs/{job_id}/events"), "text/event-stream"),
    ],
)
def test_no_request_reveals_anything_of_another_owner(
    world: World, route: tuple[str, str], accept: str
) -> None:
    case = CASES[route]
    for job in ("job", "ended"):
        asked = {**world.mine, "job": world.mine[job]}
        response = send(world, route, asked, accept=accept)
        assert response.status_code == case["status"], response.text
        said = without(response.text, asked)
        if case["status"] == 404:  # The answer is identical to that for an unknown id.
            none = send(world, route, UNKNOWN, accept=accept)
            expected = without(none.text, UNKNOWN)
            request_ids = (response.headers["x-request-id"], none.headers["x-request-id"])
            assert said.replace(request_ids[0], "") == expected.replace(request_ids[1], "")
            assert set(response.headers) == set(none.headers)
        else:
            assert said == response.text  # The answer contains no id of the second owner.
        if route != ("POST", "/classify"):
            assert [secret for secret in SECRETS if secret in said] == []


@pytest.mark.parametrize(
    "route", [route for route in sorted(CASES) if "cursor" in CASES[route]], ids=" ".join
)
def test_a_cursor_of_another_owner_reveals_nothing(world: World, route: tuple[str, str]) -> None:
    kind = CASES[route]["cursor"]
    said = []
    for identifier in (world.mine[kind], UNKNOWN[kind]):
        place = f"{10**16 - 1}-{identifier}"  # The cursor lies after everything that exists.
        response = world.call(world.theirs, "GET", route[1], params={"after": place})
        assert response.status_code == 200
        assert world.mine[kind] not in response.text
        said.append(response.json())
    assert said[0] == said[1]


def test_idempotency_keys_belong_to_one_owner(world: World) -> None:
    upload = form(**shots(("x", "y")))
    ids = set()
    for who in (world.mine, world.theirs):
        response = world.call(who, "POST", "/adapt", headers={"idempotency-key": "the-same"}, **upload)
        assert response.status_code == 202
        assert "idempotency-replayed" not in response.headers
        ids.add(response.json()["id"])
    assert len(ids) == 2


def test_the_instant_preview_is_for_the_owner_only(world: World) -> None:
    for job in (world.mine["job"], world.mine["ended"]):
        theirs = world.call(world.theirs, "POST", "/classify", **classify(job))
        assert_problem(theirs, 404, "job_not_found")
    answer = world.call(world.mine, "POST", "/classify", **classify(world.mine["job"])).json()
    assert (answer["model"], answer["preview"]) == (world.mine["job"], True)
    answer = world.call(world.mine, "POST", "/classify", **classify(world.mine["ended"])).json()
    assert (answer["model"], answer["preview"]) == (world.mine["model"], False)


@pytest.fixture
def asked(new_service: NewService, backbone: Backbone) -> Iterator[World]:
    """Return two owners. The second has sent each request with the ids of the first."""
    with two_owners(new_service, backbone) as made:
        for route in sorted(CASES):
            for job in ("job", "ended"):
                send(made, route, {**made.mine, "job": made.mine[job]})
        yield made


def test_the_owner_still_has_everything(asked: World) -> None:
    """After all requests of the other nothing is changed, and the routes work for the owner."""
    world = asked
    # GET requests come before POST requests.
    for method, path in sorted(route for route in CASES if route[0] != "DELETE"):
        ids = {**world.mine, "job": world.mine["ended" if path.endswith("/report") else "job"]}
        given = CASES[method, path].get("given")
        body = given(world.mine["model"]) if given else {}
        if path == "/jobs/{job_id}":
            assert world.call(world.mine, method, filled(path, ids)).json()["status"] == "queued"
        if path == "/models/{name}/aliases/{alias}" and method == "GET":
            moves = world.call(world.mine, method, filled(path, ids)).json()["history"]
            assert [move["action"] for move in moves] == ["promoted"] * 2
        response = world.call(world.mine, method, filled(path, ids), **body)
        if path.endswith("/extend") or (method, path) == CORRECT:  # The model's job has no images here.
            assert_problem(response, 409, "training_images_gone")
            continue
        good = {422} if CASES[method, path]["status"] == 422 else {200, 202}
        assert response.status_code in good, response.text
    listed = world.call(world.mine, "GET", "/jobs").json()["data"]
    assert {world.mine["job"], world.mine["ended"]} <= {job["id"] for job in listed}
    assert len(world.service.blobs.list(f"models/{world.mine['model']}")) == 2
    assert len(world.service.blobs.list(f"jobs/{world.mine['job']}")) == 8
    alias = filled("/models/{name}/aliases/{alias}", world.mine)
    for path in (alias, f"/jobs/{world.mine['job']}", f"/models/{world.mine['model']}"):
        assert world.call(world.mine, "DELETE", path).status_code == 204
    assert world.service.blobs.list(f"models/{world.mine['model']}") == []
    assert world.service.blobs.list(f"jobs/{world.mine['job']}") == []


def test_without_keys_everything_belongs_to_the_default_owner(fresh: Service) -> None:
    samples.new_owner(fresh.database, "other")
    theirs = samples.new_job(fresh.database, owner="other")
    mine = samples.new_job(fresh.database)
    assert [job["id"] for job in fresh.client.get("/jobs").json()["data"]] == [mine]
    assert fresh.client.get(f"/jobs/{theirs}").status_code == 404
