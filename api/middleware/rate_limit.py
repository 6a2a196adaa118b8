"""Rate limits: a token bucket per key, in the memory of this process."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import ClipCiteError


class RateLimited(ClipCiteError):
    code = "rate_limited"
    status = 429

    def __init__(self, limit: int, retry_after: int, headers: dict[str, str]) -> None:
        super().__init__(
            f"This key may send {limit:,} requests per minute. Send the request again in {retry_after} s. To "
            "follow a job, use GET /jobs/{id}?wait=30 instead of polling."
        )
        self.retry_after = retry_after
        self.headers = headers


@dataclass
class _Bucket:
    tokens: float
    filled: float


class RateLimiter:
    """Token buckets that hold the requests of one minute. For use from the event loop only."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a limiter of `per_minute` requests per key; 0 means no limit."""
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def hit(self, key: str) -> dict[str, str]:
        """Count one request and return the RateLimit headers. Raise RateLimited if the bucket is empty."""
        if not self.per_minute:
            return {}
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(self.per_minute, now))
        per_second = self.per_minute / 60
        bucket.tokens = min(self.per_minute, bucket.tokens + (now - bucket.filled) * per_second)
        bucket.filled = now
        allowed = bucket.tokens >= 1
        bucket.tokens -= allowed
        headers = {
            "RateLimit-Limit": str(self.per_minute),
            "RateLimit-Remaining": str(int(bucket.tokens)),
            "RateLimit-Reset": str(math.ceil((self.per_minute - bucket.tokens) / per_second)),
        }
        if not allowed:
            raise RateLimited(self.per_minute, math.ceil((1 - bucket.tokens) / per_second), headers)
        return headers
