"""GET /jobs/{id}/deliveries and the redelivery."""

from datetime import timedelta

from core.store.webhooks import deliveries
from tests.api.service import Service, shots


def test_deliveries_are_listed_and_sent_again(either: Service) -> None:
    job = either.accepted(**shots(), webhook="https://example.com/secret-path")["id"]
    path = f"/jobs/{job}/deliveries"
    assert either.client.get(path).json() == {"data": []}
    either.client.post(f"/jobs/{job}/cancel")
    [pending] = either.client.get(path).json()["data"]
    assert pending["id"].startswith("msg_")
    assert (pending["type"], pending["status"], pending["attempts"]) == ("job.cancelled", "pending", 0)
    with either.database.write() as session:
        [taken] = deliveries.take_due(session, limit=2)
        deliveries.record_failed(
            session, taken, reason="answered with 500", delay=timedelta(seconds=5), status=500
        )
    [retried] = either.client.get(path).json()["data"]
    assert (retried["status"], retried["response_status"], retried["reason"]) == (
        "pending",
        500,
        "answered with 500",
    )
    assert retried["next_attempt_at"] > pending["next_attempt_at"]
    with either.database.write() as session:
        deliveries.redeliver(session, job, taken.id)
        [taken] = deliveries.take_due(session, limit=2)
        deliveries.record_delivered(session, taken, status=204)
    [delivered] = either.client.get(path).json()["data"]
    assert (delivered["id"], delivered["status"], delivered["attempts"]) == (pending["id"], "delivered", 2)
    assert (delivered["response_status"], delivered["reason"], delivered["next_attempt_at"]) == (
        204,
        None,
        None,
    )
    assert delivered["finished_at"] is not None
    again = either.client.post(f"{path}/{taken.id}/redeliver")
    assert again.status_code == 202
    assert (again.json()["id"], again.json()["status"]) == (taken.id, "pending")
    assert "secret-path" not in again.text
