"""All routes of the API: who may use each, a valid request, and what it leaves in the audit log.

The tests of keys, owners, the audit log and the OpenAPI document loop over ROUTES. A new route needs one row,
and its scopes in `api.middleware.auth.NEEDED`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import update

from core.clip.models import backbones
from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from core.store.accounts.api_keys import ADAPT, ADMIN, CLASSIFY
from core.store.db.tables import Model
from tests.api import crafted
from tests.api.service import Service, form, shots
from tests.api.serving.adapted import publish_model
from tests.core.clip.reports import held_out, report_fields
from tests.core.store import samples

Things = Mapping[str, Any]
"""What an owner has: keys, the parameters of paths, and contents of bodies."""
Body = Callable[[Things], Mapping[str, Any]]
NewService = Callable[..., AbstractContextManager[Service]]
IMAGE = ("images", ("a.jpg", crafted.jpeg()))
PILE_PHOTO = crafted.jpeg(3)
PILE_IMAGE = hashlib.sha256(PILE_PHOTO).hexdigest()
PULLED, INSTALLED = "ViT-B-16/openai", "ViT-B-32/openai"


@dataclass(frozen=True)
class Route:
    """A row of the table. Each status is that of a caller who has one of the scopes."""

    scopes: str
    """Scopes of which one opens the route."""
    status: int
    """Status of the owner's valid request."""
    body: Body = lambda things: {}
    bare: int = 404
    """Status for ids that nothing has, without a body."""
    foreign: int = 404
    """Status of the valid request of another owner. 404 has the same text as for ids that nothing has."""
    audit: str = ""
    """Action and target in the audit log. `{id}` is that of the response. GET requests have none."""
    named: Body = lambda things: {}
    """Parameters of the path other than those of the owner's job and model."""


def images(things: Things) -> dict[str, Any]:
    return form(**shots())


def paths(things: Things) -> dict[str, Any]:
    return {"json": {"paths": ["fox/1.jpg", "oak/2.jpg"]}}


def evaluated(things: Things) -> dict[str, Any]:
    return form(images=[("new.jpg", crafted.jpeg(99))], labels=["oak"])


def no_changes(things: Things) -> dict[str, Any]:
    return {"json": {}}


def classified(things: Things) -> dict[str, Any]:
    return {"data": {"class_names": ["secret fox", "oak"], "model": things["model_id"]}, "files": [IMAGE]}


def exported(things: Things) -> dict[str, Any]:
    return {"files": {"archive": ("model.zip", things["delta"])}}


def report(things: Things) -> dict[str, Any]:
    return {"job_id": things["ended"]}


def pulled(things: Things) -> dict[str, Any]:
    return {"name": PULLED}


def pile_image(things: Things) -> dict[str, Any]:
    return {"files": [("images", ("secret-fox.jpg", crafted.jpeg(7)))]}


def answered(things: Things) -> dict[str, Any]:
    answer = {"positions": [0], "said": "class", "class_name": "secret fox", "how": "chosen"}
    return {"json": {"answers": [answer]}}


READS = "reads"
"""Instead of an audit line."""
ALIAS = "/models/{name}/aliases/{alias}"
BOTH = "adapt classify"
# In an order in which each request has something to change.
ROUTES: dict[tuple[str, str], Route] = {
    ("POST", "/adapt"): Route("adapt", 202, images, 422, foreign=202, audit="job.create {id}"),
    ("POST", "/adapt/layout"): Route("adapt", 200, paths, 422, foreign=200, audit=READS),
    ("GET", "/jobs"): Route("adapt", 200, bare=200, foreign=200),
    ("GET", "/jobs/{job_id}"): Route("adapt", 200),
    ("GET", "/jobs/{job_id}/events"): Route("adapt", 200),
    ("GET", "/jobs/{job_id}/images"): Route("adapt", 200),
    ("GET", "/jobs/{job_id}/images/{position}"): Route("adapt", 200),
    ("GET", "/jobs/{job_id}/report"): Route("adapt", 200, named=report),
    ("POST", "/jobs/{job_id}/retrain"): Route("adapt", 202, no_changes, 422, audit="job.create {id}"),
    ("GET", "/models"): Route(BOTH, 200, bare=200, foreign=200),
    ("GET", "/models/{model_id}"): Route(BOTH, 200),
    ("GET", "/models/{model_id}/export"): Route("adapt", 200),
    ("POST", "/models"): Route("adapt", 201, exported, 422, foreign=201, audit="model.import {id}"),
    ("POST", "/models/{model_id}/extend"): Route("adapt", 202, images, audit="job.create {id}"),
    ("POST", "/models/{model_id}/evaluate"): Route(
        "adapt", 200, evaluated, audit="model.evaluate {model_id}"
    ),
    ("GET", "/models/{model_id}/evaluation"): Route("adapt", 200),
    ("POST", "/classify"): Route("classify", 200, classified, 422, audit=READS),
    ("GET", "/models/{name}/aliases"): Route(BOTH, 200),
    ("GET", ALIAS): Route(BOTH, 200),
    ("PUT", ALIAS): Route(
        "adapt",
        200,
        lambda things: {"json": {"model": things["first"]}},
        422,
        audit="alias.promote {name}@{alias}",
    ),
    ("POST", ALIAS + "/rollback"): Route("adapt", 200, audit="alias.rollback {name}@{alias}"),
    ("DELETE", ALIAS): Route("adapt", 204, audit="alias.delete {name}@{alias}"),
    ("PATCH", "/models/{model_id}"): Route(
        "adapt", 200, lambda things: {"json": {"name": "boots"}}, 422, audit="model.rename {model_id}"
    ),
    ("POST", "/jobs/{job_id}/cancel"): Route("adapt", 202, audit="job.cancel {job_id}"),
    ("DELETE", "/jobs/{job_id}"): Route("adapt", 204, audit="job.delete {job_id}"),
    ("DELETE", "/models/{model_id}"): Route("adapt", 204, audit="model.delete {model_id}"),
    ("POST", "/piles"): Route(
        BOTH, 201, lambda things: {"json": {"name": "my pile"}}, 422, foreign=201, audit="pile.create {id}"
    ),
    ("GET", "/piles"): Route(BOTH, 200, bare=200, foreign=200),
    ("POST", "/piles/match"): Route(
        BOTH, 200, lambda things: {"json": {"sha256": [PILE_IMAGE]}}, 422, foreign=200, audit=READS
    ),
    ("GET", "/piles/{pile_id}"): Route(BOTH, 200),
    ("POST", "/piles/{pile_id}/images"): Route(BOTH, 201, pile_image, 422, audit="pile.add {pile_id}"),
    ("GET", "/piles/{pile_id}/images"): Route(BOTH, 200),
    ("GET", "/piles/{pile_id}/images/{position}/file"): Route(BOTH, 200),
    ("POST", "/piles/{pile_id}/answers"): Route(BOTH, 200, answered, 422, audit="pile.answer {pile_id}"),
    ("GET", "/piles/{pile_id}/sort"): Route(BOTH, 200),
    ("PATCH", "/piles/{pile_id}"): Route(
        BOTH, 200, lambda things: {"json": {"name": "boots"}}, 422, audit="pile.change {pile_id}"
    ),
    ("DELETE", "/piles/{pile_id}"): Route(BOTH, 204, audit="pile.delete {pile_id}"),
    ("GET", "/samples"): Route(BOTH, 200, bare=200, foreign=200),
    ("GET", "/samples/{name}.zip"): Route(BOTH, 200, foreign=200, named=lambda things: {"name": "parts"}),
    ("GET", "/backbones"): Route(BOTH, 200, bare=200, foreign=200),
    ("PUT", "/backbones/default"): Route(
        "admin", 200, lambda things: {"json": {"name": "starter"}}, 422, 403, "backbone.default starter"
    ),
    ("POST", "/backbones/{name}/pull"): Route(
        "admin", 202, bare=422, foreign=403, audit=f"backbone.pull {PULLED}", named=pulled
    ),
    ("DELETE", "/backbones/{name}/pull"): Route(
        "admin", 204, bare=204, foreign=403, audit=f"backbone.stop {PULLED}", named=pulled
    ),
    ("DELETE", "/backbones/{name}"): Route(
        "admin",
        204,
        bare=422,
        foreign=403,
        audit=f"backbone.remove {INSTALLED}",
        named=lambda things: {"name": INSTALLED},
    ),
    ("GET", "/metrics"): Route("admin", 200, bare=200, foreign=403),
}
NOTHING: Things = {
    **{"job_id": "job_x", "model_id": "mdl_x", "name": "shoes", "alias": "prod"},
    **{"position": "0", "pile_id": "pil_x"},
}
BARE = {(method, path.format_map(NOTHING)): row.bare for (method, path), row in ROUTES.items()}
"""Status of each route for ids that nothing has, without a body."""


@dataclass
class World:
    """Two owners on one service. The first one has something for each route."""

    service: Service
    mine: dict[str, Any]
    theirs: dict[str, Any]

    def call(self, who: Things, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {who['key']}", **given.pop("headers", {})}
        return self.service.client.request(method, path, headers=headers, **given)

    def send(self, who: Things, route: tuple[str, str], things: Things, **headers: str) -> httpx.Response:
        """Send the valid request with the ids of these things."""
        method, path = route
        row = ROUTES[route]
        return self.call(
            who, method, path.format_map({**things, **row.named(things)}), headers=headers, **row.body(things)
        )

    def answers(self) -> Iterator[tuple[tuple[str, str], Things, httpx.Response]]:
        """Send each valid request in order. Yield who sent it, the first owner or the operator, too."""
        for route, row in ROUTES.items():
            who = self.mine["operator"] if row.scopes == "admin" else self.mine
            answer = self.send(who, route, self.mine)
            assert answer.status_code == row.status, (route, answer.text)
            yield route, who, answer


@contextmanager
def two_owners(new_service: NewService, backbone: Backbone) -> Iterator[World]:
    """Create two owners. The first has a queued and a finished job, and a model in memory."""
    with new_service() as service:
        service.settings.__pydantic_fields_set__.discard("backbone")  # no environment sets it
        folder = backbones.folder_of(INSTALLED, service.settings.cache)
        folder.mkdir(parents=True)
        (folder / backbones.MANIFEST).write_text(f'{{"name": "{INSTALLED}", "source": "", "files": {{}}}}')
        mine, theirs = (with_key(service, owner, [ADAPT, CLASSIFY]) for owner in ("team-a", "team-b"))
        operator = with_key(service, "default", [ADMIN])
        made = World(service, mine, theirs)

        def done(method: str, path: str, **given: Any) -> Any:
            answer = made.call(mine, method, path, **given)
            assert answer.is_success, answer.text
            return answer

        def published(**given: Any) -> str:
            return publish_model(service.database, service.blobs, backbone, owner="team-a", **given)

        upload = shots(("secret fox", "badger"))
        upload["images"] = [(f"secret-fox-{i}.jpg", data) for i, (_, data) in enumerate(upload["images"])]
        prompts = {"secret fox": ["a secret sentence"]}
        job = done(
            "POST", "/adapt", **form(**upload, name="secret foxes", config={"prompts": prompts})
        ).json()
        delta = done("GET", f"/models/{published()}/export", params={"format": "delta"}).content
        name = "secret foxes"
        model = published(name=name, classes=["secret fox", "badger"], prompts=prompts)
        mine |= {"operator": operator, "job_id": job["id"], "model_id": model, "delta": delta}
        mine |= {"name": name, "alias": "secret-alias", "position": 0}
        mine["ended"] = done("GET", f"/models/{model}").json()["job_id"]
        done("POST", "/classify", **classified(mine))
        mine["first"], second = published(name=name), published(name=name)
        for latest in (mine["first"], second):  # so that a rollback is possible
            done("PUT", ALIAS.format_map(mine), json={"model": latest})
        metrics, report = {"verdict": "better"}, report_fields(held_out())
        samples.store_report(service.database, service.blobs, mine["ended"], report, metrics)
        with service.database.write() as session:  # the images of the model's job are stored
            session.execute(update(Model).where(Model.id == model).values(job_id=job["id"]))
        mine["pile_id"] = done("POST", "/piles", json={"name": "secret foxes"}).json()["id"]
        photo = [("images", ("secret-fox.jpg", PILE_PHOTO))]
        done("POST", f"/piles/{mine['pile_id']}/images", files=photo)
        yield made


def with_key(service: Service, owner: str, scopes: Sequence[str]) -> dict[str, Any]:
    with service.database.write() as session:
        made = api_keys.create(session, owner=owner, scopes=scopes)
    return {"owner": owner, "key": made.key, "key_id": made.row.id}
