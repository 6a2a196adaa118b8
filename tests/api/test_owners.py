"""Two owners on every route: no request of one shows or changes data of the other."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from core.clip.models.backbone import Backbone
from tests.api.routes import ALIAS, IMAGE, ROUTES, NewService, Things, World, two_owners
from tests.api.service import Service, assert_problem, form, shots
from tests.core.store import samples

UNKNOWN: Things = {
    "job_id": "job_01m8879efspbrp0fvcbr51d4g1",
    "model_id": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "first": "mdl_01m883zfhkxd2329sa0r05wkw8",
    "name": "no such foxes",
    "alias": "nowhere",
    "pile_id": "pil_01m883zfhkxd2329sa0r05wkw7",
    "position": 0,
}
SECRETS = ("secret foxes", "secret fox", "secret-fox", "secret sentence")
OWNED = [route for route in ROUTES if not route[1].startswith("/samples")]
"""Routes that may differ between owners."""


@pytest.fixture(scope="module")
def world(new_service: NewService, backbone: Backbone) -> Iterator[World]:
    """Return two owners for tests that change nothing of the first."""
    with two_owners(new_service, backbone) as made:
        yield made


def asked_for(world: World, job: str, things: Things | None = None) -> dict[str, Any]:
    """Return the first owner's ids, with this job of theirs, or with other ids."""
    other = things or {"job_id": world.mine[job]}
    return {**world.mine, **other, "ended": other["job_id"]}


def without(said: str, ids: Things) -> str:
    for name in ("job_id", "model_id", "pile_id", "first", "name", "alias"):
        said = said.replace(ids[name], name).replace(quote(ids[name]), name)
    return said


@pytest.mark.parametrize(
    ("route", "accept"),
    [
        *((route, "application/json") for route in OWNED),
        (("GET", "/jobs/{job_id}/events"), "text/event-stream"),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_no_request_reveals_anything_of_another_owner(
    world: World, route: tuple[str, str], accept: str
) -> None:
    for job in ("job_id", "ended"):
        asked = asked_for(world, job)
        response = world.send(world.theirs, route, asked, accept=accept)
        assert response.status_code == ROUTES[route].foreign, response.text
        said = without(response.text, asked)
        if response.status_code == 404:  # The answer is identical to that for an unknown id.
            nothing = asked_for(world, job, UNKNOWN)
            none = world.send(world.theirs, route, nothing, accept=accept)
            expected = without(none.text, nothing)
            request_ids = (response.headers["x-request-id"], none.headers["x-request-id"])
            assert said.replace(request_ids[0], "") == expected.replace(request_ids[1], "")
            assert set(response.headers) == set(none.headers)
        else:
            assert said == response.text  # The answer contains no id of the first owner.
        if route != ("POST", "/classify"):
            assert [secret for secret in SECRETS if secret in said] == []


@pytest.mark.parametrize(("path", "kind"), [("/jobs", "job_id"), ("/models", "model_id")])
def test_a_cursor_of_another_owner_reveals_nothing(world: World, path: str, kind: str) -> None:
    said = []
    for identifier in (world.mine[kind], UNKNOWN[kind]):
        place = f"{10**16 - 1}-{identifier}"  # The cursor lies after everything that exists.
        response = world.call(world.theirs, "GET", path, params={"after": place})
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
    def answer(who: Things, job: str) -> httpx.Response:
        given = {"class_names": ["secret fox", "oak"], "model": world.mine[job]}
        return world.call(who, "POST", "/classify", data=given, files=[IMAGE])

    for job in ("job_id", "ended"):
        assert_problem(answer(world.theirs, job), 404, "job_not_found")
    mine = answer(world.mine, "job_id").json()
    assert (mine["model"], mine["preview"]) == (world.mine["job_id"], True)
    mine = answer(world.mine, "ended").json()
    assert (mine["model"], mine["preview"]) == (world.mine["model_id"], False)


def test_the_owner_still_has_everything(new_service: NewService, backbone: Backbone) -> None:
    """After all requests of the other nothing is changed, and the routes work for the owner."""
    with two_owners(new_service, backbone) as world:
        for route in OWNED:
            for job in ("job_id", "ended"):
                world.send(world.theirs, route, asked_for(world, job))
        mine, blobs = world.mine, world.service.blobs
        job = world.call(mine, "GET", f"/jobs/{mine['job_id']}").json()
        assert job["status"] == "queued"
        moves = world.send(mine, ("GET", ALIAS), mine).json()["history"]
        assert [move["action"] for move in moves] == ["promoted"] * 2
        listed = world.call(mine, "GET", "/jobs").json()["data"]
        assert {mine["job_id"], mine["ended"]} <= {job["id"] for job in listed}
        assert len(blobs.list(f"models/{mine['model_id']}")) == 2
        assert len(blobs.list(f"jobs/{mine['job_id']}")) == 8
        assert [answer.status_code for _, _, answer in world.answers()] == [r.status for r in ROUTES.values()]
        assert blobs.list(f"models/{mine['model_id']}") == []
        assert blobs.list(f"jobs/{mine['job_id']}") == []


def test_without_keys_everything_belongs_to_the_default_owner(fresh: Service) -> None:
    samples.new_owner(fresh.database, "other")
    theirs = samples.new_job(fresh.database, owner="other")
    mine = samples.new_job(fresh.database)
    assert [job["id"] for job in fresh.client.get("/jobs").json()["data"]] == [mine]
    assert fresh.client.get(f"/jobs/{theirs}").status_code == 404
