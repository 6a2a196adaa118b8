"""/metrics: the requests by route, the warm models, the streams, and the queue as the database has it."""

from collections.abc import Iterator

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from api.auth import described
from api.errors import responses
from core.metrics import BacklogCollector, new_registry
from core.serving.networks import NETWORK
from core.serving.service import Serving


class WarmModels(Collector):
    """What the models in memory cost, and how often they were there when they were asked for."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        counts = self._serving.networks.warm.counts(NETWORK)
        for name, meaning, value in (
            ("models", "Networks at some alpha that are in memory.", float(counts.values)),
            ("bytes", "Memory of those, without the backbones that they share.", counts.bytes),
        ):
            yield GaugeMetricFamily(f"clipcite_warm_{name}", meaning, value=value)
        yield GaugeMetricFamily(
            "clipcite_unavailable_models",
            "Models that were asked for and whose files are missing or damaged; the log says which.",
            value=self._serving.networks.unavailable.count(),
        )
        for name, meaning, value in (
            ("hits", "Requests whose model was in memory.", float(counts.hits)),
            ("misses", "Requests that had to wait for their model.", counts.misses),
            ("loads", "Models that were loaded.", counts.loads),
            ("load_seconds", "Time that loading took.", counts.load_seconds),
            ("dropped", "Models that had to make room for others.", counts.dropped),
        ):
            yield CounterMetricFamily(f"clipcite_warm_{name}", meaning, value=value)


def install(app: FastAPI) -> None:
    """For an application whose state is complete."""
    registry = new_registry()
    registry.register(BacklogCollector(app.state.database))
    registry.register(WarmModels(app.state.serving))
    streams = Gauge("clipcite_event_streams", "Open streams of events.", registry=registry)
    streams.set_function(lambda: app.state.feed.listeners)
    instrumentator = Instrumentator(
        excluded_handlers=["/metrics"],
        should_exclude_streaming_duration=True,  # a stream lasts as long as its job
        registry=registry,
    )
    instrumentator.instrument(app).expose(
        app,
        tags=["health"],
        dependencies=[Depends(described)],
        response_class=PlainTextResponse,
        responses=responses(401),
    )
