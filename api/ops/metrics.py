"""GET /metrics: requests by route, models in memory, event streams, and the job queue of the database."""

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from api.http.problems import responses
from api.serving.pool.model_pool import MODEL
from api.serving.service import Serving
from api.threads import REQUESTS
from core.metrics import BacklogCollector, new_registry

router = APIRouter(tags=["health"])


class ServingMetrics(Collector):
    """Models in memory, and image batches of this process."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        pool, images = self._serving.engine.pool, self._serving.images
        models, batches = pool.warm.counts(MODEL), self._serving.engine.batcher.counts()
        for name, meaning, value in (
            ("warm_bytes", "Memory of models and deltas, without their shared backbones.", pool.warm.bytes),
            ("warm_budget_bytes", "CLIPCITE_MODEL_CACHE_BYTES.", pool.warm.budget_bytes),
            ("queue_images", "Images of requests in progress.", images.held),
            ("queue_max_images", "Maximum number of images of requests in progress.", images.most),
        ):
            yield GaugeMetricFamily(f"clipcite_{name}", meaning, value=value)
        for name, meaning, count in (
            ("warm_hits", "Requests whose model was in memory.", float(models.hits)),
            ("warm_misses", "Requests that waited for their model.", models.misses),
            ("warm_evicted", "Models evicted to make room.", models.evicted),
            (
                "warm_unavailable",
                "Loads that failed, because files were missing or damaged. The log names the models.",
                pool.unavailable,
            ),
            ("queue_refused", "Requests rejected with 503 by load shedding.", images.refused),
            ("queue_batches", "Image batches.", batches.batches.get("images", 0)),
            (
                "queue_batched_images",
                "Images in these batches; an image that passes twice is two.",
                batches.rows.get("images", 0),
            ),
            ("queue_busy_seconds", "Computing time, summed over threads.", batches.busy_seconds),
        ):
            yield CounterMetricFamily(f"clipcite_{name}", meaning, value=count)


@router.get("/metrics", response_class=PlainTextResponse, responses=responses(401))
@REQUESTS.runs
def metrics(request: Request) -> Response:
    """Prometheus metrics of this API process and of the job queue."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def install(app: FastAPI) -> None:
    """Register the metrics of an application. Its state must be complete.

    The instrumentator's own route is not used. Its function is a closure over the registry, and FastAPI keeps
    every route's function for ever, and with it the application and its models.
    """
    app.state.registry = registry = new_registry()
    registry.register(
        BacklogCollector(app.state.database, redispatch_seconds=app.state.settings.redispatch_seconds)
    )
    registry.register(ServingMetrics(app.state.serving))
    streams = Gauge("clipcite_event_streams", "Open event streams.", registry=registry)
    streams.set_function(lambda: app.state.event_source.readers.held)
    Instrumentator(
        excluded_handlers=["/metrics"],
        should_exclude_streaming_duration=True,  # a stream lasts until its job ends
        registry=registry,
    ).instrument(app)
