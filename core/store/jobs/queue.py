"""The broker, which carries only wake-ups: messages that a job is due.

The rows in the database are the queue. The dispatcher sends lost wake-ups again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
from kombu.exceptions import OperationalError

from core.settings import Settings
from core.store.errors import QueueUnavailable

ADAPT_TASK = "clipcite.adapt"
QUEUE = "adapt"
PROBE = "probe"
"""Redis key of the write check, which expires after a minute."""


def make_celery(settings: Settings) -> celery.Celery:
    """Create the Celery app of the dispatcher, which sends tasks, and of the worker, which runs them."""
    app = celery.Celery("clipcite", set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],  # pickles in the broker are rejected, never executed
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=QUEUE,
        task_create_missing_queues=True,
        # Acknowledged before the job runs. The lease requeues the job of a dead worker sooner than a
        # redelivery, which would only fail at the claim.
        task_acks_late=False,
        task_publish_retry=False,
        task_track_started=False,
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_acquire_timeout=5,
        **(_files(settings) if settings.redis_url is None else _redis(settings)),
    )
    # Celery prefers its own CELERY_BROKER_URL to `broker_url`, but not to these two.
    url = app.conf["broker_url"]
    app.conf.update(broker_read_url=url, broker_write_url=url)
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
    """Raise QueueUnavailable unless the broker responds and accepts writes. A full broker may not."""
    with _channel(app) as channel:
        channel.queue_declare(QUEUE, passive=False, durable=True)
        redis = getattr(channel, "client", None)
        if redis is not None:
            redis.set(PROBE, "", ex=60)


@contextmanager
def _channel(app: celery.Celery) -> Iterator[Any]:
    """Yield a channel. All errors of the broker become QueueUnavailable."""
    with app.connection_for_write() as connection:
        errors = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
            with connection.channel() as channel:
                yield channel
        except errors as error:
            raise _unavailable(error) from error


def _redis(settings: Settings) -> dict[str, Any]:
    assert settings.redis_url is not None
    visibility_timeout = int(settings.deadline_seconds) + 900  # then the message goes to another worker
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "visibility_timeout": visibility_timeout,
        "worker_disable_prefetch": True,
        "broker_transport_options": {
            "visibility_timeout": visibility_timeout,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,  # a hanging server would block for ever; must exceed BRPOP's 1 s
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "clipcite:",
        },
    }


def _files(settings: Settings) -> dict[str, Any]:
    folder = settings.data.absolute() / "queue"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("messages", "control"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    return {
        "broker_url": "filesystem://localhost//",  # kombu warns without a host
        "broker_transport": "core.store.jobs.file_transport:Transport",
        # Remote control would leave unread files behind.
        "worker_enable_remote_control": False,
        "broker_transport_options": {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.2,
        },
    }


def _unavailable(error: Exception) -> QueueUnavailable:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return QueueUnavailable(
        f"The broker does not respond properly ({reason}). Jobs are safe and wait in the database. Check "
        "that the server of CLIPCITE_REDIS_URL is running, has free memory and can be reached from here."
    )
