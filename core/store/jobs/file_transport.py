"""File transport for Celery: a broker for one machine, without a server.

This is kombu's filesystem transport with five corrections:

- kombu writes messages in place, so a worker may read an empty message and stop at invalid JSON. Here a
  message is renamed into place when it is complete.
- kombu moves a message to the temporary folder before it reads it. On another file system a move is a copy,
  and two workers may copy the same message. Here a message belongs to the worker that deletes its file.
- kombu keeps its exchanges in a file, which two processes that start together may read half written. Here
  messages go directly to the queue's name, without a table of exchanges.
- kombu stops at a file that is no message. Here it is renamed to `.bad`, and the worker goes on.
- Celery's `worker_disable_prefetch` is for Redis only. Here a busy worker takes no message either.
"""

import json
import logging
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from celery.worker import state
from kombu.transport import filesystem, virtual

logger = logging.getLogger(__name__)


class QoS(virtual.QoS):
    def can_consume(self) -> bool:
        return not state.reserved_requests and super().can_consume()  # type: ignore[no-untyped-call]


class Channel(filesystem.Channel):
    QoS = QoS

    def _put(  # type: ignore[override]  # kombu's own subclass renames the argument as well
        self, queue: str, payload: dict[str, Any], **kwargs: Any
    ) -> None:
        # Workers take the messages in the order of their names, also after a reboot.
        name = f"{time.time_ns():020d}_{uuid.uuid4()}"
        folder = Path(self.data_folder_out)
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(json.dumps(payload), encoding="utf-8")
        unfinished.rename(folder / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: object = None) -> Any:
        for path in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            try:
                message = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
                    raise ValueError("it has no properties")
                path.unlink()
            except FileNotFoundError:  # another worker has taken it
                continue
            except (OSError, ValueError) as error:
                with suppress(OSError):
                    path.rename(path.with_suffix(".bad"))
                logger.warning(
                    "%s can't be read and is skipped: %s. The dispatcher repeats wake-ups.", path, error
                )
                continue
            return message
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        pass


class Transport(filesystem.Transport):
    Channel = Channel
