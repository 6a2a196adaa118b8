"""Routes of /backbones: pre-trained models, their downloads, the choice of the default, and removals."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api.deps import CallerDep, DatabaseDep, ServingDep, operator_only
from api.http.problems import responses
from api.middleware.auth import Caller
from api.serving.service import Serving
from api.threads import REQUESTS
from clipcite.types.backbones import BackboneList, BackboneRow, DefaultBackbone
from clipcite.types.problems import ProblemAction
from core.clip.checks.estimate import estimate
from core.clip.config import STARTER, resolve_config
from core.clip.errors import UnknownBackbone
from core.clip.models.backbones import list_installed, progress, read, remove
from core.clip.models.recommend import CURATED, Machine, find_speed, recommend, this_machine
from core.clip.models.sizes import find_size, training_memory
from core.clip.models.sources import find_source
from core.store import backbones
from core.store.db.session import Database
from core.store.db.tables import BackbonePull

IMAGES = 100
"""Number of images for which the list estimates a time."""
OPERATOR = Depends(operator_only)
router = APIRouter(prefix="/backbones", tags=["backbones"])
Name = Annotated[str, Path(max_length=200, description="Backbone, such as `ViT-B-16/openai`.")]


@router.get("", responses=responses(401))
@REQUESTS.runs
def list_backbones(database: DatabaseDep, serving: ServingDep, caller: CallerDep) -> BackboneList:
    """List the pre-trained models, with the recommendation for this machine. A key of any scope is enough."""
    return _listed(database, serving, caller)


@router.put("/default", dependencies=[OPERATOR], responses=responses(400, 401, 403, 409, 422))
@REQUESTS.runs
def set_default_backbone(
    body: DefaultBackbone, database: DatabaseDep, serving: ServingDep, caller: CallerDep
) -> BackboneList:
    """Set the default backbone of later jobs. It must be installed. Only the operator may do this.

    The service loads it while the current default is still in use. Existing models keep their backbone.
    """
    _set_default(database, serving, body.name)
    return _listed(database, serving, caller)


@router.post(
    "/{name:path}/pull",
    status_code=202,
    dependencies=[OPERATOR],
    responses=responses(401, 403, 404, 409, 422, 503),
)
@REQUESTS.runs
def pull_backbone(
    name: Name,
    database: DatabaseDep,
    serving: ServingDep,
    caller: CallerDep,
    use: Annotated[bool, Query(description="Make it the default once it is installed.")] = False,
) -> BackboneRow:
    """Download and check a backbone in the background. Only the operator may do this.

    A repeated request changes nothing, except that it retries a failed download. At most 10 downloads may
    wait.
    """
    if name != STARTER:
        find_source(name)
    if name != STARTER and read(name, serving.settings.cache) is None:
        with database.write() as session:
            backbones.request_pull(session, name, use=use)
    elif use:
        _set_default(database, serving, name)
    return next(row for row in _listed(database, serving, caller).data if row.name == name)


@router.delete(
    "/{name:path}/pull", status_code=204, dependencies=[OPERATOR], responses=responses(401, 403, 404, 422)
)
@REQUESTS.runs
def stop_pull(name: Name, database: DatabaseDep) -> None:
    """Stop a download, or dismiss a failed one. Only the operator may do this."""
    with database.write() as session:
        backbones.stop_pull(session, name)


@router.delete(
    "/{name:path}", status_code=204, dependencies=[OPERATOR], responses=responses(401, 403, 404, 409, 422)
)
@REQUESTS.runs
def remove_backbone(name: Name, database: DatabaseDep, serving: ServingDep) -> None:
    """Delete an installed backbone. Only the operator may do this.

    The response is 409 if it is the default, or if a model or an unfinished job needs it.
    """
    with database.write() as session:
        backbones.release(session, serving.settings, name)
        remove(name, serving.settings.cache)


def _listed(database: Database, serving: Serving, caller: Caller) -> BackboneList:
    settings = serving.settings
    machine = this_machine(settings.device, settings.cache)
    recommended, reason = recommend(machine, settings.cache)
    with database.read() as session:
        pulls = {row.name: row for row in backbones.pulls(session)}
        default = backbones.default(session, settings)
    here = [backbone.name for backbone in list_installed(settings.cache)]
    names = dict.fromkeys([STARTER, *(each.name for each in CURATED), *here, *pulls, default])
    rows = [_row(name, serving, machine, pulls.get(name)) for name in names]
    for row in rows:
        row.default, row.recommended = row.name == default, row.name == recommended
    fixed = backbones.is_fixed(settings) or not caller.is_operator
    return BackboneList(data=rows, recommendation=reason, fixed=fixed)


def _set_default(database: Database, serving: Serving, name: str) -> None:
    if not serving.has_backbone(name):
        pull = ProblemAction.of("POST /backbones/{name}/pull", name=name)
        raise UnknownBackbone(f"{name!r} is not installed. Download it with ", pull, ".")
    with database.write() as session:
        backbones.set_default(session, serving.settings, name)


def _row(name: str, serving: Serving, machine: Machine, pull: BackbonePull | None) -> BackboneRow:
    cache = serving.settings.cache
    curated = next((each for each in CURATED if each.name == name), None)
    config, size = resolve_config(backbone=name), find_size(name)
    speed = find_speed(name, cache, machine)
    found = read(name, cache) if name != STARTER else None
    download = None if pull is None or pull.error is not None else progress(name, cache)
    if pull is not None:
        complete = found is not None or (download is not None and download.done_bytes == download.total_bytes)
        state = "failed" if pull.error is not None else "checking" if complete else "downloading"
    else:
        state = "available" if found is None and not serving.has_backbone(name) else "installed"
    return BackboneRow(
        name=name,
        title=curated.title if curated else "Starter" if name == STARTER else name,
        license=curated.license if curated else None,
        state=state,
        default=False,
        recommended=False,
        bytes=found.bytes if found else curated.bytes if curated else None,
        serving_bytes=None if size is None else size.serving_bytes,
        training_bytes=training_memory(config),
        seconds_per_100_images=estimate(config, IMAGES, 0, [], speed=speed).seconds,
        seconds_measured=speed is not None and speed.here,
        progress=download,
        error=None if pull is None else pull.error,
    )
