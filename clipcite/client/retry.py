"""When and how soon a request is sent again."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

AGAIN = frozenset({429, 502, 503, 504})
NOT_DONE = frozenset({429, 503})
"""Of these the service itself says that it has done nothing."""
MAX_BACKOFF = 8.0


@dataclass(frozen=True)
class Retry:
    """Nearly every request of this library may be sent twice: uploads of images carry an Idempotency-Key.
    An import of a model and a rollback are not sent again where they may have been carried out."""

    attempts: int = 5
    """In all, for one request; 1: never again."""
    first_seconds: float = 0.5
    """About so long is the first pause; each is twice the one before."""
    longest_seconds: float = 60
    """A service that asks for a longer pause than this gets its error raised at once."""
    patience_seconds: float = 600
    """About so long `wait` and `follow` bear a service that is away."""

    @property
    def patient(self) -> "Retry":
        """For what goes on while the service is restarted."""
        return replace(self, attempts=5 + round(self.patience_seconds / (0.75 * MAX_BACKOFF)))

    def pause(self, attempt: int, headers: Mapping[str, str] | None = None) -> float | None:
        """Seconds before the attempt after this one (1 is the first); None: there is to be none."""
        if attempt >= self.attempts:
            return None
        asked = retry_after(headers or {})
        if asked is not None:
            return asked if asked <= self.longest_seconds else None
        return self.backoff(attempt)

    def backoff(self, attempt: int) -> float:
        """With chance in it, so that many clients do not come back at the same moment."""
        full: float = min(self.first_seconds * 2.0 ** min(attempt - 1, 30), MAX_BACKOFF)
        return full * random.uniform(0.5, 1)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a `Retry-After` header (RFC 9110: seconds or a date), if there is one."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())


def is_over(until: float | None, pause: float = 0) -> bool:
    """True if `until`, on the monotonic clock, comes within `pause` seconds."""
    return until is not None and time.monotonic() + pause >= until
