"""Routes of the webhook deliveries of a job."""

from fastapi import APIRouter

from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import responses
from api.jobs.deliveries import service
from api.threads import REQUESTS
from clipcite.wire.jobs import Delivery, DeliveryList

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("/{job_id}/deliveries", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_deliveries(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> DeliveryList:
    """List the deliveries to the webhook of a job, oldest first.

    Finished deliveries are kept for CLIPCITE_KEEP_WEBHOOKS_DAYS.
    """
    return service.list_deliveries(database, owner, job_id)


@router.post(
    "/{job_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=responses(401, 404, 422, 503, 507),
)
@REQUESTS.runs
def redeliver(database: DatabaseDep, owner: CurrentOwner, job_id: str, delivery_id: str) -> Delivery:
    """Send a delivery once more, now. Its `webhook-id` stays, so that the receiver recognises a duplicate."""
    return service.redeliver(database, owner, job_id, delivery_id)
