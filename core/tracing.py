"""OpenTelemetry traces from a request to its trainer. They are off unless an OTLP endpoint is set.

`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` turns them on. The SDK's other variables
apply too, such as `OTEL_SERVICE_NAME` and `OTEL_TRACES_SAMPLER`. The job's row carries the trace context,
because a wake-up to a worker may be lost or repeated.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT = "traceparent"
_NANOSECONDS = 1_000_000_000


def is_on() -> bool:
    return any(os.environ.get(name) for name in ENDPOINTS)


def start_tracing(process: str) -> None:
    """Export the spans of this process, if tracing is on. Call this once, at the start of the process.

    Args:
        process: name of the service in the traces, unless OTEL_SERVICE_NAME is set.

    Raises:
        SystemExit: tracing is on, but its packages are not installed.
    """
    if not is_on():
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SystemExit(
            f"{' or '.join(ENDPOINTS)} is set, but the packages for tracing are not installed. Run "
            "`pip install '.[tracing]'`, or unset the variable."
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or process
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Send all ended spans now, before the process is killed."""
    if is_on():
        from opentelemetry import trace

        trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]  # of the SDK's provider


def current() -> str | None:
    """Return the current span as a W3C `traceparent`, or None if tracing is off."""
    if not is_on():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT)


@contextmanager
def span(name: str, parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """Record a span as a child of `parent` (a `traceparent`) or of the current span."""
    if not is_on():
        yield
        return
    from opentelemetry import trace

    tracer = trace.get_tracer("clipcite")
    with tracer.start_as_current_span(name, context=_context(parent), attributes=attributes):
        yield


def record(name: str, parent: str | None, start: datetime, end: datetime) -> None:
    """Record a span that has already ended."""
    if is_on():
        from opentelemetry import trace

        times = [int(moment.timestamp() * _NANOSECONDS) for moment in (start, end)]
        tracer = trace.get_tracer("clipcite")
        tracer.start_span(name, context=_context(parent), start_time=times[0]).end(times[1])


def _context(parent: str | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({TRACEPARENT: parent})
