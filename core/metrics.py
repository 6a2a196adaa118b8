"""Prometheus metrics that several processes export.

Labels are states, stages and error codes, never owners, jobs or models, so the number of series stays small.
"""

import logging
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.store.db.session import Database
from core.store.jobs.stats import backlog

logger = logging.getLogger(__name__)


class BacklogCollector(Collector):
    """Metrics of the job queue, read from the database at every scrape.

    Every process exports the same values. Aggregate them with `max`.
    """

    def __init__(self, database: Database, *, redispatch_seconds: float) -> None:
        self._database = database
        self._redispatch_seconds = redispatch_seconds

    def describe(self) -> list[Metric]:
        return []  # otherwise registering would query the database

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("clipcite_database_up", "1 if the database responded to this scrape, else 0.")
        try:
            with self._database.read() as session:
                queue = backlog(session, redispatch_seconds=self._redispatch_seconds)
        except Exception as error:  # the other metrics are needed even more now
            logger.warning("The queue metrics are missing: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for name, meaning, label, counts in (
            ("jobs", "Stored jobs, by status.", "status", queue.jobs),
            ("failed_jobs", "Stored failed jobs, by error code.", "code", queue.failures),
        ):
            family = GaugeMetricFamily(f"clipcite_{name}", meaning, labels=[label])
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family
        yield GaugeMetricFamily(
            "clipcite_queue_age_seconds",
            "Waiting time of the oldest queued job (seconds); 0 if none is queued.",
            value=queue.queue_age,
        )
        yield GaugeMetricFamily(
            "clipcite_dispatch_lag_seconds",
            "Longest wait of a due job for dispatch (seconds), including delays by limits; 0 if none is due.",
            value=queue.dispatch_lag,
        )


def new_registry() -> CollectorRegistry:
    """Return a registry for one application or process, with the standard process metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def show_metrics(registry: CollectorRegistry, host: str, port: int) -> None:
    """Serve the metrics at http://host:port/metrics, in a thread. A port in use is only logged."""
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        logger.error(
            "No metrics: can't listen on %s, port %d (%s). Choose another CLIPCITE_METRICS_PORT.",
            host,
            port,
            error.strerror,
        )
    else:
        logger.info("Metrics at http://%s:%d/metrics", host, port)
