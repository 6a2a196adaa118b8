"""Operations of the delivery routes, one transaction each."""

from clipcite.wire.jobs import Delivery, DeliveryList
from core.store.accounts import audit
from core.store.db import tables
from core.store.db.session import Database
from core.store.jobs import jobs
from core.store.webhooks import deliveries


def list_deliveries(database: Database, owner: str, job_id: str) -> DeliveryList:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return DeliveryList(data=[_shown(row) for row in deliveries.list_of(session, job.id)])


def redeliver(database: Database, owner: str, job_id: str, delivery_id: str) -> Delivery:
    with database.write() as session:
        job = jobs.get(session, job_id, owner=owner)
        row = deliveries.redeliver(session, job.id, delivery_id)
        audit.record(session, "webhook.redeliver", row.id)
        return _shown(row)


def _shown(row: tables.WebhookDelivery) -> Delivery:
    ended = "delivered" if row.reason is None else "failed"
    return Delivery.model_validate(
        {
            **{name: getattr(row, name) for name in Delivery.model_fields if hasattr(row, name)},
            "type": row.body["type"],
            "status": "pending" if row.finished_at is None else ended,
            "response_status": row.status,
        }
    )
