"""What a worker and a dispatcher count, and how it is shown: at a port of their own, if one is set."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# What the trainer says becomes a label only within these bounds.
STAGES = ("preparing", "loading", "training", "cross_validating", "evaluating", "saving", "publishing")
MAX_CODES = 50
STAGE_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
ROUND_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)


class WorkerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter("clipcite_attempts", "Attempts at jobs that began.", registry=registry)
        self._codes = {""}
        self._ended = Counter(
            "clipcite_attempts_ended",
            "Attempts by how they ended: succeeded, failed, cancelled, requeued (another attempt follows) or "
            "lost (another worker has the job), and by the code of the error, if there was one.",
            ["outcome", "code"],
            registry=registry,
        )
        self.busy = Gauge("clipcite_worker_busy", "1 while this worker has a job.", registry=registry)
        self._stages = Histogram(
            "clipcite_stage_seconds",
            "How long the stages of the attempts took that were seen to their end.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )

    @contextmanager
    def attempt(self) -> Iterator["StageClock"]:
        self.attempts.inc()
        with self.busy.track_inprogress():
            yield StageClock(self._stages)

    def ended(self, outcome: str, code: str = "") -> None:
        if len(self._codes) < MAX_CODES:
            self._codes.add(code)
        self._ended.labels(outcome, code if code in self._codes else "other").inc()


class StageClock:
    """Takes the time of one stage after another."""

    def __init__(self, seconds: Histogram) -> None:
        self._seconds = seconds
        self._stage: str | None = None
        self._since = 0.0

    def begin(self, stage: str | None) -> None:
        """With it the stage so far has ended; None: nothing follows."""
        now = time.monotonic()
        if self._stage in STAGES:
            self._seconds.labels(self._stage).observe(now - self._since)
        self._stage, self._since = stage, now


class DispatcherMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter("clipcite_messages_sent", "Jobs sent to the workers.", registry=registry)
        self.lease_expiries = Counter(
            "clipcite_lease_expiries",
            "Jobs whose worker fell silent, by what became of them.",
            ["status"],
            registry=registry,
        )
        self.webhooks = Counter(
            "clipcite_webhooks",
            "Attempts to tell a webhook: delivered, retried (another attempt follows) or failed for good.",
            ["outcome"],
            registry=registry,
        )
        self.errors = Counter("clipcite_dispatch_errors", "Rounds that failed.", ["code"], registry=registry)
        self.rounds = Histogram(
            "clipcite_dispatch_round_seconds",
            "How long a look for work took.",
            buckets=ROUND_BUCKETS,
            registry=registry,
        )
