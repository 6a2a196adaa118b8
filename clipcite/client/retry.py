"""Retry policy: statuses, number of attempts, backoff."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

RETRYABLE = frozenset({429, 502, 503, 504})
NOT_DONE = frozenset({429, 503})
"""Statuses that guarantee that the service did nothing."""
MAX_BACKOFF = 8.0


@dataclass(frozen=True)
class Retry:
    """Retry policy of a client.

    Almost every request can be retried, because uploads of images have an Idempotency-Key. Imports of models,
    rollbacks and new piles are not retried if the service may have executed them.
    """

    attempts: int = 5
    """Maximum attempts per request; 1 disables retries."""
    first_seconds: float = 0.5
    """Approximate first pause (seconds); each further pause is twice as long."""
    longest_seconds: float = 60
    """Maximum `Retry-After` (seconds). A longer one raises the error immediately."""
    patience_seconds: float = 600
    """Approximate outage (seconds) that `wait` and `follow` tolerate."""

    @property
    def patient(self) -> "Retry":
        """The same policy with enough attempts to outlast a restart of the service."""
        return replace(self, attempts=5 + round(self.patience_seconds / (0.75 * MAX_BACKOFF)))

    def pause(self, attempt: int, headers: Mapping[str, str] | None = None) -> float | None:
        """Return the seconds to wait after attempt number `attempt` (from 1), or None to give up.

        Without `Retry-After` this is exponential backoff with jitter, so that clients do not retry at the
        same moment.
        """
        if attempt >= self.attempts:
            return None
        requested = retry_after(headers or {})
        if requested is not None:
            return requested if requested <= self.longest_seconds else None
        full: float = min(self.first_seconds * 2.0 ** min(attempt - 1, 30), MAX_BACKOFF)
        return full * random.uniform(0.5, 1)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header, or None. The service never sends a date."""
    value = headers.get("retry-after", "").strip()
    return float(value) if value.isdecimal() else None


def is_over(until: float | None, pause: float = 0) -> bool:
    """Return True if `until` (monotonic clock) is at most `pause` seconds away."""
    return until is not None and time.monotonic() + pause >= until
