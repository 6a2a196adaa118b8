"""Routes of health and metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.http.problems import responses
from api.ops.health import answer_readyz
from api.ops.metrics import answer_metrics
from api.threads import REQUESTS
from clipcite.wire.health import Alive, Readiness

open_router = APIRouter(tags=["health"])
"""Routes that need no key."""
router = APIRouter(tags=["health"])


@open_router.get("/healthz")
async def alive() -> Alive:
    """Liveness: the process responds, even when all its threads are busy."""
    return Alive()


@open_router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """Readiness: 200 if the service can work, else 503.

    Status 503 means that database, storage or default backbone is unavailable. Without the broker the status
    is `degraded`: jobs are accepted and wait in the database. The status is also `degraded` if the storage
    belongs to another database. Reasons are shown only to
    callers that may read `/metrics`. The checks run at most once per second.
    """
    return await answer_readyz(request, response)


@router.get("/metrics", response_class=PlainTextResponse, responses=responses(401))
@REQUESTS.runs
def metrics(request: Request) -> Response:
    """Prometheus metrics of this API process and of the job queue."""
    return answer_metrics(request)
