"""One id in all: request, job, events, log lines of all processes, webhook and audit log."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import receiver
from tests.service.running import colours, serve, wait_for, wait_for_job

REQUEST_ID = "order-66.a_b"


@pytest.mark.slow
def test_one_id_in_all(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = {
        **environment,
        "CLIPCITE_LOG": "json",
        "CLIPCITE_LOG_LEVEL": "info",
        "CLIPCITE_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    with receiver() as there, serve(tmp_path / "data", settings) as service, service.http as http:
        answer = http.post(
            "/adapt",
            files={"archive": ("shots.zip", colours())},
            data={"config": json.dumps({"epochs": 1}), "webhook": there.url},
            headers={"X-Request-ID": REQUEST_ID},
        )
        assert (answer.status_code, answer.headers["x-request-id"]) == (202, REQUEST_ID)
        job_id = answer.json()["id"]
        job = wait_for_job(http, job_id)
        assert (job["status"], job["request_id"]) == ("succeeded", REQUEST_ID)

        events = http.get(f"/jobs/{job_id}/events").json()["data"]
        named = {event["type"] for event in events if event["data"].get("request_id") == REQUEST_ID}
        assert {"queued", "started", "model_published", "succeeded"} <= named

        wait_for(lambda: len(there.hits) == 2, explain=service.log)
        assert {headers["x-request-id"] for _, headers, _ in there.hits} == {REQUEST_ID}

        def loggers() -> set[str]:
            return {line["logger"] for line in lines(service.log()) if line.get("request_id") == REQUEST_ID}

        wanted = {"worker.job_runner", "worker.trainer", "worker.dispatcher.webhooks"}
        wait_for(lambda: wanted <= loggers(), explain=service.log)

        with http.stream("GET", f"/jobs/{job_id}") as other:  # another request has another id
            assert other.headers["x-request-id"] != REQUEST_ID
        http.delete(f"/jobs/{job_id}", headers={"X-Request-ID": "another"}).raise_for_status()
        found = [line for line in lines(service.log()) if line.get("audit")]
    assert [(line["action"], line["target"], line["request_id"], line["address"]) for line in found] == [
        ("job.create", job_id, REQUEST_ID, "127.0.0.1"),
        ("job.delete", job_id, "another", "127.0.0.1"),
    ]


def lines(log: str) -> list[dict[str, Any]]:
    """Return the log's lines in JSON. Other lines are of `clipcite serve`."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]
