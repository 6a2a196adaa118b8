"""Spans of one process, sent to a receiver of OTLP on this machine."""

import os
import subprocess
import sys
import textwrap
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from core import tracing
from tests.receiver import receiver

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def run(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def test_spans_belong_to_the_trace_of_their_parent() -> None:
    script = f"""
        from datetime import UTC, datetime, timedelta
        from core.tracing import *
        start_tracing("here")
        with span("attempt", "00-{TRACE}-{CALLER}-01", job_id="job_1"):
            row = current()
            with span("stage"):
                pass
        now = datetime(2026, 1, 1, tzinfo=UTC)
        record("wait in the queue", row, now, now + timedelta(seconds=7))
        flush()
        print(row)
    """
    with receiver() as there:
        done = run(script, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{there.host}:{there.port}")
        assert done.returncode == 0, done.stderr
    spans: dict[str, Any] = {}
    for path, _, body in there.hits:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            [name] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            assert name == "here"
            spans |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    attempt = spans["attempt"].span_id
    assert done.stdout.strip() == f"00-{TRACE}-{attempt.hex()}-01"
    assert spans["attempt"].parent_span_id.hex() == CALLER
    assert spans["stage"].parent_span_id == spans["wait in the queue"].parent_span_id == attempt
    waited = spans["wait in the queue"]
    assert waited.end_time_unix_nano - waited.start_time_unix_nano == 7_000_000_000


def test_traces_are_off_without_an_endpoint() -> None:
    script = """
        import sys
        from core.tracing import *
        start_tracing("here")
        with span("attempt"):
            assert current() is None
        flush()
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """
    done = run(script, **dict.fromkeys(tracing.ENDPOINTS, ""))
    assert done.returncode == 0, done.stderr


def test_missing_packages_are_named() -> None:
    script = """
        import sys
        sys.modules["opentelemetry"] = None
        from core.tracing import start_tracing
        start_tracing("here")
    """
    done = run(script, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "pip install '.[tracing]'" in done.stderr
