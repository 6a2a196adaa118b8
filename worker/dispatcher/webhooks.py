"""Webhook deliveries: signed as in Standard Webhooks, three tries within an hour, public addresses only.

Each owner with due deliveries has its own thread, so that a slow receiver does not delay other owners.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import httpx
from sqlalchemy import ColumnElement, delete, func, or_, select, update
from standardwebhooks import Webhook

from core import url_guard
from core.errors import ExpectedError
from core.log import about
from core.settings import Settings
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, Owner, WebhookDelivery
from core.store.db.text import sanitize_text, utc_text
from core.store.jobs.lifecycle import append_event, of_request
from core.url_guard import Destination, InvalidDestination, NotPublic, Resolve
from worker.metrics import DispatcherMetrics

logger = logging.getLogger(__name__)
DELAYS = (timedelta(minutes=1), timedelta(minutes=30))
"""Delays between the tries."""
SECONDS = 10.0
"""Time limit of a try (seconds)."""
CLAIMED = timedelta(minutes=2)
"""Time after which a delivery is tried again if its dispatcher was killed."""
MAX_OWNERS = 32
"""Maximum number of owners whose messages are sent in parallel."""


class DeliveryFailed(Exception):
    """A failed try."""


class Webhooks:
    """Sends the messages in the table `webhook_deliveries`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        metrics: DispatcherMetrics,
        *,
        resolve: Resolve = url_guard.resolve_host,
        seconds: float = SECONDS,
    ) -> None:
        self._given: dict[str, Any] = {
            "allow_private": settings.webhook_allow_private,
            "resolve": resolve,
            "seconds": seconds,
        }
        self._database = database
        self._metrics = metrics
        self._threads: dict[str, threading.Thread] = {}

    def round(self) -> list[str]:
        """Start the due deliveries without waiting for them. Return their owners."""
        self._threads = {owner: thread for owner, thread in self._threads.items() if thread.is_alive()}
        with self._database.read() as session:
            due = select(Job.owner).join(WebhookDelivery, WebhookDelivery.job_id == Job.id)
            due = due.where(_is_due(database_now(session))).group_by(Job.owner)
            waiting = session.scalars(due.order_by(func.min(WebhookDelivery.next_attempt_at))).all()
        started = [owner for owner in waiting if owner not in self._threads]
        for owner in started[: MAX_OWNERS - len(self._threads)]:
            # A daemon thread: shutdown must not wait for receivers. Interrupted deliveries are retried.
            thread = threading.Thread(target=self._deliver, args=(owner,), name="webhooks", daemon=True)
            thread.start()
            self._threads[owner] = thread
        return started

    def wait(self, seconds: float) -> None:
        """Wait until the started deliveries have ended, for at most this time."""
        until = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, until - time.monotonic()))

    def _deliver(self, owner: str) -> None:
        """Send the owner's due messages. After a failure other owners have their turn."""
        try:
            while self._deliver_next(owner):
                pass
        except ExpectedError as error:  # database unavailable: retried later, with the same id
            logger.warning("%s: %s", error.code, error)
        except Exception:
            logger.exception("A webhook delivery failed by an internal error.")

    def _deliver_next(self, owner: str) -> bool:
        with self._database.write() as session:
            at = database_now(session)
            due = select(WebhookDelivery).join(Job, WebhookDelivery.job_id == Job.id)
            due = due.where(Job.owner == owner, _is_due(at))
            first = due.order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id).limit(1)
            row = session.scalars(first.with_for_update(of=WebhookDelivery, skip_locked=True)).one_or_none()
            if row is None:
                return False
            row.attempts += 1  # count the try before making it, in case the process is killed
            row.next_attempt_at = at + CLAIMED
            job, secret = session.get_one(Job, row.job_id), session.get_one(Owner, owner).webhook_secret
        named: dict[str, Any] = {**of_request(job.request_id)}
        with about(job_id=job.id, **named):
            try:
                status = send(str(job.webhook), row.id, row.body, secret, **named, **self._given)
            except DeliveryFailed as error:
                self._record(row, reason=sanitize_text(str(error)))
                return False
            self._record(row, status=status)
            return True

    def _record(self, row: WebhookDelivery, *, status: int | None = None, reason: str = "") -> None:
        """Record the outcome of a try as an event of the job, unless a later try has begun."""
        delay = DELAYS[row.attempts - 1] if status is None and row.attempts <= len(DELAYS) else None
        data = {"webhook_id": row.id, "type": row.body["type"], "attempt": row.attempts}
        mine = WebhookDelivery.id == row.id, WebhookDelivery.attempts == row.attempts
        with self._database.write() as session:
            session.execute(
                select(Job.id).where(Job.id == row.job_id).with_for_update()
            )  # as a deletion does
            at = database_now(session)
            if delay is None:
                ended = session.execute(delete(WebhookDelivery).where(*mine).returning(WebhookDelivery.id))
            else:
                later = update(WebhookDelivery).where(*mine).values(next_attempt_at=at + delay)
                ended = session.execute(later.returning(WebhookDelivery.id))
            if ended.first() is None:
                return
            if status is None:
                again = None if delay is None else utc_text(at + delay, "seconds")
                data |= {"reason": reason, "next_attempt_at": again}
                append_event(session, row.job_id, at=at, type="webhook_failed", data=data)
            else:
                append_event(
                    session, row.job_id, at=at, type="webhook_delivered", data={**data, "status": status}
                )
        outcome = "delivered" if status else "retried" if delay else "failed"
        self._metrics.webhooks.labels(outcome).inc()
        told = f"was delivered with {status}" if status else f"failed, the receiver {reason}"
        logger.log(
            logging.INFO if status else logging.WARNING,
            *("%s: the webhook %s (try %d of %d)", row.job_id, told, row.attempts, len(DELAYS) + 1),
        )


def _is_due(at: datetime) -> ColumnElement[bool]:
    """Select the messages to send. One due later than any delay comes from a wrong clock, and is due now."""
    next_at = WebhookDelivery.next_attempt_at
    return or_(next_at <= at, next_at > at + max(*DELAYS, CLAIMED))


def send(
    url: str,
    message_id: str,
    body: dict[str, Any],
    secret: str,
    *,
    request_id: str | None = None,
    allow_private: bool,
    resolve: Resolve = url_guard.resolve_host,
    seconds: float = SECONDS,
) -> int:
    """Send a message and return the status of the response, which is 2xx.

    Args:
        message_id: id of the message. All tries have the same id, so that receivers notice duplicates.
        request_id: id of the request that created the job.

    Raises:
        DeliveryFailed: the receiver did not accept the message. The text says what the receiver did.
    """
    content, at = json.dumps(body), datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"clipcite/{version('clipcite')}",
        **({} if request_id is None else {"X-Request-ID": request_id}),
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, content),
    }
    try:
        destination = url_guard.parse(url, allow_private=allow_private)
        addresses = url_guard.addresses(destination, allow_private=allow_private, resolve=resolve)
        status = asyncio.run(_post(destination, addresses, headers, content, seconds))
    except (InvalidDestination, NotPublic) as error:
        raise DeliveryFailed(f"is not allowed: {error.detail}") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise DeliveryFailed(f"did not respond within {seconds:g} s") from error
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise DeliveryFailed(f"could not be reached: {error or type(error).__name__}") from error
    if not 200 <= status < 300:
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        raise DeliveryFailed(f"responded with {status}{hint}")
    return status


async def _post(
    to: Destination, addresses: Sequence[str], headers: dict[str, str], content: str, seconds: float
) -> int:
    """Post to the first address that accepts a connection, and return the status.

    The connection goes to a checked address, even if the name resolves to another one now. The Host header
    has the name, and the certificate is checked against it. Proxies are not used.
    """
    timeout = httpx.Timeout(None, connect=seconds / max(1, len(addresses)))
    tls = httpx.create_ssl_context() if to.scheme == "https" else False
    failed: Exception = OSError("the name has no address")
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(verify=tls, trust_env=False, timeout=timeout) as client,
    ):
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            given: dict[str, Any] = {"content": content, "headers": {"Host": to.authority, **headers}}
            given["extensions"] = {"sni_hostname": to.host}
            try:
                async with client.stream(
                    "POST", f"{to.scheme}://{host}:{to.port}{to.target}", **given
                ) as response:
                    return response.status_code
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
    raise failed
