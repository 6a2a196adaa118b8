"""Operations of the delivery routes, one transaction each."""

from api.jobs.deliveries.schemas import Delivery, DeliveryList
from core.store.accounts import audit
from core.store.db.session import Database
from core.store.jobs import jobs
from core.store.webhooks import deliveries


def list_deliveries(database: Database, owner: str, job_id: str) -> DeliveryList:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return DeliveryList(data=[Delivery.of(row) for row in deliveries.list_of(session, job.id)])


def redeliver(database: Database, owner: str, job_id: str, delivery_id: str) -> Delivery:
    with database.write() as session:
        job = jobs.get(session, job_id, owner=owner)
        row = deliveries.redeliver(session, job.id, delivery_id)
        audit.record(session, "webhook.redeliver", row.id)
        return Delivery.of(row)
