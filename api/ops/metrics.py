"""/metrics: the requests by route, the warm models, the streams, and the queue as the database has it."""

from collections.abc import Iterator

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from core.metrics import BacklogCollector, new_registry
from core.serving.service import Serving
from core.serving.types import BatchCounts, EngineStats


class ServingMetrics(Collector):
    """What is in memory and what it costs, how often it was there when it was asked for, and the queue. GET
    /runtime has more, by model."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        engine = self._serving.engine.stats()
        yield from self._warm(engine)
        yield from self._texts()
        yield from self._queue(engine.batches)

    def _warm(self, engine: EngineStats) -> Iterator[Metric]:
        networks, deltas = engine.models, engine.deltas
        for name, meaning, value in (
            ("models", "Networks at some alpha that are in memory.", float(networks.values)),
            ("models_in_use", "Of those, that requests hold now.", networks.in_use),
            ("deltas", "Models in memory as they are stored.", deltas.values),
            ("bytes", "Memory of networks and deltas, without the backbones that they share.", engine.bytes),
            ("budget_bytes", "CLIPCITE_MODEL_CACHE_BYTES.", engine.budget_bytes),
        ):
            yield GaugeMetricFamily(f"clipcite_warm_{name}", meaning, value=value)
        yield GaugeMetricFamily(
            "clipcite_unavailable_models",
            "Models that were asked for and whose files are missing or damaged; the log says which.",
            value=engine.unavailable,
        )
        for name, meaning, value in (
            ("hits", "Requests whose model was in memory.", float(networks.hits)),
            ("misses", "Requests that had to wait for their model.", networks.misses),
            ("loads", "Models that were loaded.", networks.loads),
            ("load_seconds", "Time that loading took.", networks.load_seconds),
            ("evicted", "Models that had to make room for others.", networks.evicted),
            ("delta_loads", "Models that were read from the storage.", deltas.loads),
        ):
            yield CounterMetricFamily(f"clipcite_warm_{name}", meaning, value=value)

    def _texts(self) -> Iterator[Metric]:
        prompts = self._serving.text_counts()
        yield GaugeMetricFamily(
            "clipcite_text_bytes", "Memory of the features of prompts.", value=prompts.bytes
        )
        for name, meaning, value in (
            ("hits", "Requests all of whose names were known.", float(prompts.hits)),
            ("misses", "Requests some of whose names were not.", prompts.misses),
            ("encoded", "Class names that went through a network.", prompts.encoded),
        ):
            yield CounterMetricFamily(f"clipcite_text_{name}", meaning, value=value)

    def _queue(self, batches: BatchCounts) -> Iterator[Metric]:
        gate = self._serving.gate
        for name, meaning, value in (
            ("images", "Images of requests that have no answer yet.", float(gate.images)),
            ("max_images", "CLIPCITE_MAX_WAITING_IMAGES.", gate.max_images),
            ("waiting_images", "Images that wait for a network.", batches.waiting["images"]),
            ("waiting_prompts", "Prompts that wait for a network.", batches.waiting["prompts"]),
        ):
            yield GaugeMetricFamily(f"clipcite_queue_{name}", meaning, value=value)
        for name, meaning, value in (
            ("refused", "Requests that were told to come again.", float(gate.refused)),
            ("batches", "Batches of images.", batches.batches.get("images", 0)),
            ("batched_images", "Images that went through in those.", batches.rows.get("images", 0)),
            ("busy_seconds", "Time of computing, of all threads together.", batches.busy_seconds),
        ):
            yield CounterMetricFamily(f"clipcite_queue_{name}", meaning, value=value)


def answer_metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def install(app: FastAPI) -> None:
    """For an application whose state is complete.

    The route is not the instrumentator's own, which is a closure over the registry: FastAPI keeps every
    route's function for ever, and with that one it would keep the application and its networks.
    """
    app.state.registry = registry = new_registry()
    registry.register(
        BacklogCollector(app.state.database, redispatch_seconds=app.state.settings.redispatch_seconds)
    )
    registry.register(ServingMetrics(app.state.serving))
    streams = Gauge("clipcite_event_streams", "Open streams of events.", registry=registry)
    streams.set_function(lambda: app.state.feed.listeners)
    Instrumentator(
        excluded_handlers=["/metrics"],
        should_exclude_streaming_duration=True,  # a stream lasts as long as its job
        registry=registry,
    ).instrument(app)
