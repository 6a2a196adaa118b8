"""OpenTelemetry traces of the whole service, sent to a receiver of OTLP on this machine."""

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api import crafted
from tests.receiver import Receiver, receiver
from tests.service.running import colours, serve, submit, wait_for, wait_for_job

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
Span = tuple[str, str, str]
"""Process, trace id and id of the parent."""


def spans_of(there: Receiver) -> dict[str, Span]:
    """Return the last span of each name."""
    found = {}
    for path, _, body in there.hits:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    parent = span.parent_span_id.hex()
                    found[span.name] = (attributes["service.name"], span.trace_id.hex(), parent)
                    IDS[span.span_id.hex()] = span.name
    return found


IDS: dict[str, str] = {}


@pytest.mark.slow
def test_one_trace_from_the_request_to_the_trainer(environment: dict[str, str], tmp_path: Path) -> None:
    with receiver() as there:
        given = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{there.host}:{there.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with serve(tmp_path / "data", {**environment, **given}) as service, service.http as http:
            http.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
            job_id = submit(http, colours(), epochs=1, batch_size=8)
            del http.headers["traceparent"]
            job = wait_for_job(http, job_id)
            assert job["status"] == "succeeded", job
            image: Any = ("images", ("a.jpg", crafted.jpeg()))
            fields = {"model": job["model_id"], "class_names": ["red", "blue"]}
            assert http.post("/classify", files=[image], data=fields).status_code == 200
            wait_for(lambda: {"attempt", "classify batch", "POST /classify"} <= set(spans_of(there)))
        spans = spans_of(there)
    chain = {
        "POST /adapt": ("clipcite-api", CALLER),
        "wait in the queue": ("clipcite-worker", "POST /adapt"),
        "attempt": ("clipcite-worker", "POST /adapt"),
        "trainer": ("clipcite-trainer", "attempt"),
        "preparing": ("clipcite-trainer", "trainer"),
        "training": ("clipcite-trainer", "trainer"),
        "evaluating": ("clipcite-trainer", "trainer"),
    }
    for name, (process, parent) in chain.items():
        found_process, trace, parent_id = spans[name]
        assert (found_process, trace) == (process, TRACE), name
        assert IDS.get(parent_id, parent_id) == parent, name
    process, trace, parent_id = spans["classify batch"]
    assert (process, IDS[parent_id]) == ("clipcite-api", "POST /classify")
    assert trace != TRACE
    assert not [name for name in spans if "readyz" in name or "metrics" in name]
