"""Webhooks are sent: each delivery in a thread of its own, so that a receiver that is dead or slow keeps
neither the jobs waiting nor anybody else's news."""

import json
import logging
import random
import threading
import time
from datetime import timedelta
from importlib.metadata import version

import httpcore

from core import url_guard
from core.errors import ClipCiteError
from core.log import about
from core.settings import Settings
from core.store.db.session import Database
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Delivery
from core.url_guard import InvalidDestination, NotPublic, Resolve
from worker.dispatcher.webhook_http import post, signed
from worker.metrics import DispatcherMetrics

logger = logging.getLogger("worker.dispatcher.webhook_sender")
AT_ONCE = 16
ATTEMPT_SECONDS = 10.0
MINUTE, HOUR = 60.0, 3_600.0
DELAYS = (5.0, 30.0, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 10 * HOUR)
"""Seconds between one attempt and the next: a day in all."""
JITTER = 0.2
"""Each is up to so much shorter or longer: what failed together does not come back together."""
GONE = 410


class DeliveryFailed(Exception):
    """An attempt failed."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class Webhooks:
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
        """Begin with what is due, and return how many; nobody waits for the answers here."""
        with self._lock:
            busy = {delivery.owner for delivery, _ in self._sending.values()}
            room = AT_ONCE - len(self._sending)
        if room <= 0:
            return 0
        with self._database.read() as session:
            if not deliveries.any_due(session):
                return 0
        with self._database.write() as session:
            taken = deliveries.take_due(session, limit=room, busy=busy)
        for delivery in taken:
            # A daemon: a process that is to end waits for no stranger. What was cut off is sent again.
            thread = threading.Thread(target=self._send, args=(delivery,), name=delivery.id, daemon=True)
            with self._lock:
                self._sending[delivery.id] = delivery, thread
            thread.start()
        return len(taken)

    def wait(self, seconds: float) -> None:
        """Until what was begun has ended, or the time is over."""
        until = time.monotonic() + seconds
        with self._lock:
            threads = [thread for _, thread in self._sending.values()]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _send(self, delivery: Delivery) -> None:
        with about(job_id=delivery.job_id):
            try:
                self._attempt(delivery)
            except ClipCiteError as error:  # the database is away: it is sent again, under the same id
                logger.warning("%s: %s: %s", delivery.job_id, error.code, error)
            except Exception:
                logger.exception("%s: its webhook failed by a fault of ours", delivery.job_id)
            finally:
                with self._lock:
                    del self._sending[delivery.id]

    def _attempt(self, delivery: Delivery) -> None:
        try:
            status = self._post(delivery)
        except DeliveryFailed as failed:
            over = failed.permanent or delivery.attempt > len(DELAYS)
            delay = None if over else _delay(delivery.attempt)
            with self._database.write() as session:
                deliveries.record_failed(session, delivery, reason=failed.reason, delay=delay)
            self._metrics.webhooks.labels("failed" if over else "retried").inc()
            logger.warning(
                "%s: its webhook %s (attempt %d%s)",
                *(delivery.job_id, failed.reason, delivery.attempt, ", the last" if over else ""),
            )
            return
        with self._database.write() as session:
            deliveries.record_delivered(session, delivery, status=status)
        self._metrics.webhooks.labels("delivered").inc()
        logger.info("%s: its webhook has it (attempt %d)", delivery.job_id, delivery.attempt)

    def _post(self, delivery: Delivery) -> int:
        """The status, one of success. Raises DeliveryFailed."""
        body = json.dumps(delivery.body).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"clipcite/{version('clipcite')}",
            **signed(delivery.secrets, delivery.id, body, at=int(time.time())),
        }
        try:
            to = url_guard.parse(delivery.url, allow_private=self._allow_private)
            found = url_guard.addresses(to, allow_private=self._allow_private, resolve=self._resolve)
            status = post(to, found, headers, body, seconds=self._seconds)
        except (InvalidDestination, NotPublic) as error:
            raise DeliveryFailed(f"may not be sent to: {error.detail}", permanent=True) from error
        except httpcore.TimeoutException as error:
            raise DeliveryFailed(f"did not answer within {self._seconds:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise DeliveryFailed(f"could not be talked to: {error}") from error
        except OSError as error:  # of the resolver; those of the connection are the ones above
            raise DeliveryFailed(f"could not be found: {error.strerror or error}") from error
        if not 200 <= status < 300:
            hint = "; redirects are not followed" if 300 <= status < 400 else ""
            raise DeliveryFailed(f"answered with {status}{hint}", permanent=status == GONE)
        return status


def _delay(attempt: int) -> timedelta:
    """After this attempt, the first being 1."""
    return timedelta(seconds=DELAYS[attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER))
