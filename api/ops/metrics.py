"""GET /metrics: requests by route, models in memory, event streams, and the job queue of the database."""

from collections.abc import Iterator

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from core.metrics import BacklogCollector, new_registry
from core.serving.pool.model_pool import DELTA, MODEL, ModelPool
from core.serving.service import Serving
from core.serving.types import BatchCounts


class ServingMetrics(Collector):
    """Caches, batches and waiting images of this process."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        yield from self._warm(self._serving.engine.pool)
        yield from self._texts()
        yield from self._queue(self._serving.engine.batcher.counts())

    def _warm(self, pool: ModelPool) -> Iterator[Metric]:
        models, deltas = pool.warm.counts(MODEL), pool.warm.counts(DELTA)
        for name, meaning, value in (
            ("models", "Models in memory, each at one alpha.", float(models.values)),
            ("models_in_use", "Models in memory that requests are using.", models.in_use),
            ("deltas", "Deltas in memory, as stored.", deltas.values),
            ("bytes", "Memory of models and deltas, without their shared backbones.", pool.warm.bytes),
            ("budget_bytes", "CLIPCITE_MODEL_CACHE_BYTES.", pool.warm.budget_bytes),
        ):
            yield GaugeMetricFamily(f"clipcite_warm_{name}", meaning, value=value)
        for name, meaning, value in (
            ("hits", "Requests whose model was in memory.", float(models.hits)),
            ("misses", "Requests that waited for their model.", models.misses),
            ("loads", "Models loaded.", models.loads),
            ("load_seconds", "Time spent loading models.", models.load_seconds),
            ("evicted", "Models evicted to make room.", models.evicted),
            ("delta_loads", "Models read from the storage.", deltas.loads),
            (
                "unavailable",
                "Loads that failed, because files were missing or damaged. The log names the models.",
                pool.unavailable,
            ),
        ):
            yield CounterMetricFamily(f"clipcite_warm_{name}", meaning, value=value)

    def _texts(self) -> Iterator[Metric]:
        prompts = self._serving.predictor.texts
        yield GaugeMetricFamily(
            "clipcite_text_bytes", "Memory of the text feature cache.", value=prompts.bytes
        )
        for name, meaning, value in (
            ("hits", "Requests whose class names were all cached.", float(prompts.hits)),
            ("misses", "Requests with class names that were not cached.", prompts.misses),
            ("encoded", "Class names encoded by a text tower.", prompts.encoded),
        ):
            yield CounterMetricFamily(f"clipcite_text_{name}", meaning, value=value)

    def _queue(self, batches: BatchCounts) -> Iterator[Metric]:
        slots = self._serving.admission.slots
        for name, meaning, value in (
            ("images", "Images of requests in progress.", float(slots.held)),
            ("max_images", "Maximum number of images of requests in progress.", slots.most),
            ("waiting_images", "Decoded images waiting for a batch.", batches.waiting["images"]),
            ("waiting_prompts", "Prompts waiting for a batch.", batches.waiting["prompts"]),
        ):
            yield GaugeMetricFamily(f"clipcite_queue_{name}", meaning, value=value)
        for name, meaning, value in (
            ("refused", "Requests rejected with 503 by load shedding.", float(slots.refused)),
            ("batches", "Image batches.", batches.batches.get("images", 0)),
            ("batched_images", "Images in those batches.", batches.rows.get("images", 0)),
            ("busy_seconds", "Computing time, summed over threads.", batches.busy_seconds),
        ):
            yield CounterMetricFamily(f"clipcite_queue_{name}", meaning, value=value)


def answer_metrics(request: Request) -> Response:
    """Return all metrics in Prometheus' text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def install(app: FastAPI) -> None:
    """Register the metrics of an application whose state is complete.

    The instrumentator's own route is not used, because its function is a closure over the registry. FastAPI
    keeps every route's function for ever, and with it the application and its models.
    """
    app.state.registry = registry = new_registry()
    registry.register(
        BacklogCollector(app.state.database, redispatch_seconds=app.state.settings.redispatch_seconds)
    )
    registry.register(ServingMetrics(app.state.serving))
    streams = Gauge("clipcite_event_streams", "Open event streams.", registry=registry)
    streams.set_function(lambda: app.state.event_source.readers.slots.held)
    Instrumentator(
        excluded_handlers=["/metrics"],
        should_exclude_streaming_duration=True,  # a stream lasts until its job ends
        registry=registry,
    ).instrument(app)
