"""Health, metrics and runtime."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.deps import CurrentOwner, ServingDep
from api.ops.health import answer_readyz
from api.ops.metrics import answer_metrics
from api.ops.runtime import read_runtime
from api.ops.schemas import Alive, Readiness, Runtime
from api.problems import responses

open_router = APIRouter(tags=["health"])
"""Routes that need no key."""
router = APIRouter(tags=["health"])


@open_router.get("/healthz")
async def alive() -> Alive:
    """The process answers, also when all its threads are busy."""
    return Alive()


@open_router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """503 unless database, storage and the default backbone are there. Without the broker it is
    `degraded`: jobs are taken and wait in the database. It is `degraded` too where the storage belongs to
    another database. Why a part is not there is told to those who may
    see `/metrics`. Asked for at most once per second, however many ask."""
    return await answer_readyz(request, response)


@router.get("/metrics", response_class=PlainTextResponse, responses=responses(401))
def metrics(request: Request) -> Response:
    """Endpoint that serves Prometheus metrics."""
    return answer_metrics(request)


@router.get("/runtime", responses=responses(401))
def get_runtime(serving: ServingDep, owner: CurrentOwner) -> Runtime:
    """What this API process has in memory, and what it works on. Models of other owners are only counted."""
    return read_runtime(serving, owner)
