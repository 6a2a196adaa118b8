"""Metric and log lines of requests that authentication refuses."""

import logging
import time

from prometheus_client import CollectorRegistry, Counter

logger = logging.getLogger(__name__)
PERIOD_SECONDS = 60
MAX_LINES = 100
"""Maximum number of log lines per period, because a stranger may send requests from many addresses."""


class Refusals:
    """Counts refused requests, and logs each key or address once a minute per code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "clipcite_refused_requests",
            "Requests refused by authentication or a missing scope, by error code.",
            ["code"],
            registry=registry,
        )
        self._logged: set[tuple[str, str]] = set()
        self._period = 0

    def count(self, code: str, subject: str) -> None:
        """Count a refused request.

        Args:
            subject: id of the key if the service knows it, else the address of the client.
        """
        self._counter.labels(code).inc()
        period = int(time.monotonic() / PERIOD_SECONDS)
        if period != self._period:
            self._period = period
            self._logged.clear()
        if (code, subject) not in self._logged and len(self._logged) < MAX_LINES:
            self._logged.add((code, subject))
            logger.info("Requests from %s are refused: %s", subject, code)
