"""Routes of /jobs/{id}/deliveries: the deliveries to the webhook of a job."""

from fastapi import APIRouter

from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import responses
from api.threads import REQUESTS
from clipcite.wire.jobs import Delivery, DeliveryList
from core.store.accounts import audit
from core.store.db.webhook_tables import WebhookDelivery
from core.store.jobs import jobs
from core.store.webhooks import deliveries

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("/{job_id}/deliveries", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_deliveries(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> DeliveryList:
    """List the deliveries to the webhook of a job, oldest first.

    Finished deliveries are kept for 30 days, or for CLIPCITE_KEEP_DAYS if that is less.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return DeliveryList(data=[_shown(row) for row in deliveries.list_of(session, job.id)])


@router.post(
    "/{job_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=responses(401, 404, 422, 503, 507),
)
@REQUESTS.runs
def redeliver(database: DatabaseDep, owner: CurrentOwner, job_id: str, delivery_id: str) -> Delivery:
    """Send a delivery once more, now. Its `webhook-id` stays, so that the receiver recognises a duplicate."""
    with database.write() as session:
        job = jobs.get(session, job_id, owner=owner)
        row = deliveries.redeliver(session, job.id, delivery_id)
        audit.record(session, "webhook.redeliver", row.id)
        return _shown(row)


def _shown(row: WebhookDelivery) -> Delivery:
    ended = "delivered" if row.reason is None else "failed"
    return Delivery.model_validate(
        {
            **{name: getattr(row, name) for name in Delivery.model_fields if hasattr(row, name)},
            "type": row.body["type"],
            "status": "pending" if row.finished_at is None else ended,
            "response_status": row.status,
        }
    )
