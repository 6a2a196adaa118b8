"""Claims of rows for which several dispatchers compete."""

import json
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from core.settings import Settings
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, WebhookDelivery
from core.store.jobs import lifecycle
from core.store.storage.blobs import Blobs
from tests.core.store.races import at_once
from tests.core.store.samples import OWNER, new_job, stored_job, types_of
from tests.receiver import receiver
from worker.dispatcher.cleanup import enforce_retention
from worker.dispatcher.webhooks import Webhooks
from worker.metrics import DispatcherMetrics


def test_several_senders_deliver_each_message_once(database: Database) -> None:
    with receiver() as there:
        job_ids = [new_job(database, webhook=there.url) for _ in range(6)]
        with database.write() as session:
            for job_id in job_ids:
                lifecycle.request_cancel(session, job_id, owner=OWNER)

        def send() -> None:
            settings = Settings(webhook_allow_private=True)
            sender = Webhooks(settings, database, DispatcherMetrics(CollectorRegistry()), seconds=600)
            sender.round()
            sender.wait(600)

        at_once(*[send] * 3)
        told = sorted(json.loads(body)["data"]["id"] for _, _, body in there.hits)
    assert told == sorted(job_ids)
    assert {tuple(types_of(database, job_id)[-2:]) for job_id in job_ids} == {
        ("cancelled", "webhook_delivered")
    }
    with database.read() as session:
        assert session.scalars(select(WebhookDelivery)).all() == []


def test_several_cleaners_delete_each_job_once(database: Database, tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    job_ids = [stored_job(database, blobs) for _ in range(6)]
    with database.write() as session:
        for job_id in job_ids:
            lifecycle.request_cancel(session, job_id, owner=OWNER)
        session.execute(update(Job).values(finished_at=database_now(session) - timedelta(days=2)))
    deleted: list[int] = []
    at_once(*[lambda: deleted.append(enforce_retention(Settings(keep_days=1), database, blobs))] * 3)
    assert (sum(deleted), blobs.list("jobs")) == (6, [])
