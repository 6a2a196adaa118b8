"""Prometheus metrics of the worker and the dispatcher. Each is served on its own port, if one is set."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.store.db.tables import STAGES

STAGE_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)


class WorkerMetrics:
    """Metrics of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "clipcite_attempts_ended",
            "Ended attempts by outcome: succeeded, failed, cancelled, requeued (another attempt follows) or "
            "lost (another worker has the job); and by error code, if any.",
            ["outcome", "code"],
            registry=registry,
        )
        self.busy = Gauge("clipcite_worker_busy", "1 while this worker has a job.", registry=registry)
        self._stages = Histogram(
            "clipcite_stage_seconds",
            "Duration of the completed stages of attempts (seconds).",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )

    @contextmanager
    def attempt(self) -> Iterator["StageClock"]:
        """Yield a clock for the stages of an attempt."""
        with self.busy.track_inprogress():
            yield StageClock(self._stages)

    def record_end(self, outcome: str, code: str = "") -> None:
        """Count the end of an attempt."""
        self._ended.labels(outcome, code).inc()


class StageClock:
    """A clock that times consecutive stages."""

    def __init__(self, seconds: Histogram) -> None:
        self._seconds = seconds
        self._stage: str | None = None
        self._since = 0.0

    def begin(self, stage: str | None) -> None:
        """End the current stage and start the next. None starts no stage."""
        now = time.monotonic()
        if self._stage in STAGES:
            self._seconds.labels(self._stage).observe(now - self._since)
        self._stage, self._since = stage, now


class DispatcherMetrics:
    """Metrics of a dispatcher."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lease_expiries = Counter(
            "clipcite_lease_expiries",
            "Jobs whose lease expired, by their status afterwards.",
            ["status"],
            registry=registry,
        )
        self.webhooks = Counter(
            "clipcite_webhooks",
            "Webhook delivery attempts: delivered, retried (another attempt follows) or failed permanently.",
            ["outcome"],
            registry=registry,
        )
        self.errors = Counter("clipcite_dispatch_errors", "Failed rounds.", ["code"], registry=registry)
