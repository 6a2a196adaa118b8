"""Webhook deliveries, each in its own thread: a slow receiver delays neither jobs nor other deliveries."""

import json
import logging
import random
import threading
import time
from datetime import timedelta
from http.client import HTTPException
from importlib.metadata import version

from core import url_guard
from core.errors import ClipCiteError
from core.log import about
from core.settings import Settings
from core.store.db.session import Database
from core.store.jobs.transitions import of_request
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Delivery
from core.url_guard import InvalidDestination, NotPublic, Resolve
from worker.dispatcher.webhook_http import post, signed
from worker.metrics import DispatcherMetrics

logger = logging.getLogger("worker.dispatcher.webhook_sender")
MAX_CONCURRENT = 16
ATTEMPT_SECONDS = 10.0
MINUTE, HOUR = 60.0, 3_600.0
DELAYS = (5.0, 30.0, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 10 * HOUR)
"""Seconds between attempts, one day in total."""
JITTER = 0.2
"""Random change of each delay, as a share: deliveries that failed together are not retried together."""
GONE = 410
"""Status by which a receiver ends its subscription."""


class DeliveryFailed(Exception):
    """A failed delivery attempt."""

    def __init__(self, reason: str, *, permanent: bool = False, status: int | None = None) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.status = status


class Webhooks:
    """Sender of webhook deliveries from the outbox."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        metrics: DispatcherMetrics,
        *,
        resolve: Resolve = url_guard.resolve_host,
        seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._allow_private = settings.webhook_allow_private
        self._database = database
        self._metrics = metrics
        self._resolve = resolve
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sending: dict[str, tuple[Delivery, threading.Thread]] = {}

    def round(self) -> int:
        """Start the due deliveries, without waiting for them. Return their number."""
        with self._lock:
            busy = {delivery.owner for delivery, _ in self._sending.values()}
            room = MAX_CONCURRENT - len(self._sending)
        if room <= 0:
            return 0
        with self._database.read() as session:
            if not deliveries.any_due(session):
                return 0
        with self._database.write() as session:
            taken = deliveries.take_due(session, limit=room, busy=busy)
        for delivery in taken:
            # A daemon thread: shutdown must not wait for receivers. Interrupted deliveries are repeated.
            thread = threading.Thread(target=self._send, args=(delivery,), name=delivery.id, daemon=True)
            with self._lock:
                thread.start()
                self._sending[delivery.id] = delivery, thread
        return len(taken)

    def wait(self, seconds: float) -> None:
        """Wait for the started deliveries, for at most this time."""
        until = time.monotonic() + seconds
        with self._lock:
            threads = [thread for _, thread in self._sending.values()]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _send(self, delivery: Delivery) -> None:
        with about(job_id=delivery.job_id, **of_request(delivery.request_id)):
            try:
                self._attempt(delivery)
            except ClipCiteError as error:  # database unavailable: repeated later, with the same id
                logger.warning("%s: %s: %s", delivery.job_id, error.code, error)
            except Exception:
                logger.exception("%s: the webhook delivery failed by an internal error", delivery.job_id)
            finally:
                with self._lock:
                    del self._sending[delivery.id]

    def _attempt(self, delivery: Delivery) -> None:
        try:
            status = send(
                delivery, allow_private=self._allow_private, resolve=self._resolve, seconds=self._seconds
            )
        except DeliveryFailed as failed:
            over = failed.permanent or delivery.attempt > len(DELAYS)
            delay = None if over else _delay(delivery.attempt)
            with self._database.write() as session:
                deliveries.record_failed(session, delivery, reason=str(failed), delay=delay)
            self._metrics.webhooks.labels("failed" if over else "retried").inc()
            logger.warning(
                "%s: the webhook %s (attempt %d%s)",
                *(delivery.job_id, failed, delivery.attempt, ", the last" if over else ""),
            )
            return
        with self._database.write() as session:
            deliveries.record_delivered(session, delivery, status=status)
        self._metrics.webhooks.labels("delivered").inc()
        logger.info("%s: webhook delivered (attempt %d)", delivery.job_id, delivery.attempt)


def send(
    delivery: Delivery,
    *,
    allow_private: bool,
    resolve: Resolve = url_guard.resolve_host,
    seconds: float = ATTEMPT_SECONDS,
) -> int:
    """Send the delivery, and return its status, which is 2xx. Raises DeliveryFailed."""
    body = json.dumps(delivery.body).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"clipcite/{version('clipcite')}",
        **({} if delivery.request_id is None else {"X-Request-ID": delivery.request_id}),
        **signed(delivery.secret, delivery.id, body, at=int(time.time())),
    }
    try:
        destination = url_guard.parse(delivery.url, allow_private=allow_private)
        addresses = url_guard.addresses(destination, allow_private=allow_private, resolve=resolve)
    except (InvalidDestination, NotPublic) as error:
        raise DeliveryFailed(f"is not allowed: {error.detail}", permanent=True) from error
    except OSError as error:
        raise DeliveryFailed(f"could not be resolved: {error}") from error
    try:
        status = post(destination, addresses, headers, body, seconds=seconds)
    except TimeoutError as error:
        raise DeliveryFailed(f"did not answer within {seconds:g} s") from error
    except (OSError, HTTPException) as error:
        raise DeliveryFailed(f"could not be reached: {error}") from error
    if not 200 <= status < 300:
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        raise DeliveryFailed(f"answered with {status}{hint}", permanent=status == GONE, status=status)
    return status


def _delay(attempt: int) -> timedelta:
    """Return the delay after this attempt, counted from 1."""
    return timedelta(seconds=DELAYS[attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER))
