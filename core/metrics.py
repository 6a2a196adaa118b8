"""Prometheus metrics that more than one process shows. Labels are states, stages and codes of ours: no
owner, job or model has a series of its own, so that their number stays small whoever uses the service."""

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
    """Read from the database when somebody looks. Every process shows the same: take the maximum."""

    def __init__(self, database: Database, *, redispatch_seconds: float) -> None:
        self._database = database
        self._redispatch_seconds = redispatch_seconds

    def describe(self) -> list[Metric]:
        return []  # else registering would ask the database

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("clipcite_database_up", "1 if the database answered this look, else 0.")
        try:
            with self._database.read() as session:
                found = backlog(session, redispatch_seconds=self._redispatch_seconds)
        except Exception as error:  # the other metrics are the more wanted now
            logger.warning("Metrics without the queue: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        jobs = GaugeMetricFamily("clipcite_jobs", "Jobs that there are, by status.", labels=["status"])
        for status, count in found.jobs.items():
            jobs.add_metric([status], count)
        yield jobs
        failures = GaugeMetricFamily(
            "clipcite_failed_jobs", "Failed jobs that there are, by the code of their error.", labels=["code"]
        )
        for code, count in found.failures.items():
            failures.add_metric([code], count)
        yield failures
        yield GaugeMetricFamily(
            "clipcite_queue_age_seconds",
            "For how long the job has waited that waits longest; 0 if none does.",
            value=found.queue_age,
        )
        yield GaugeMetricFamily(
            "clipcite_dispatch_lag_seconds",
            "For how long a job could have been sent to a worker and was not, be it for a limit; else 0.",
            value=found.dispatch_lag,
        )


def new_registry() -> CollectorRegistry:
    """One for an application or a process, with what Prometheus tells of every process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def show_metrics(registry: CollectorRegistry, host: str, port: int) -> None:
    """At http://host:port/metrics, in a thread. A port that can't be had is said and stops nothing."""
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        logger.error(
            "No metrics: port %d of %s can't be listened on (%s). Choose another CLIPCITE_METRICS_PORT.",
            port,
            host,
            error.strerror,
        )
    else:
        logger.info("Metrics at http://%s:%d/metrics", host, port)
