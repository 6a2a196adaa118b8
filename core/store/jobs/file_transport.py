"""File transport for Celery: a broker for one machine, without a server.

This is kombu's filesystem transport with two corrections. kombu writes messages in place, so a worker may
read an empty message and stop at invalid JSON. Here a message is renamed into place when it is complete.
kombu also keeps its exchanges in a file, which two processes that start together may read half written. Here
messages go directly to the queue's name, without a table of exchanges.
"""

import json
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem


class Channel(filesystem.Channel):
    def _put(  # type: ignore[override]  # kombu's own subclass renames the argument as well
        self, queue: str, payload: dict[str, Any], **kwargs: Any
    ) -> None:
        # Workers take the messages in the order of their names, also after a reboot.
        name = f"{time.time_ns():020d}_{uuid.uuid4()}"
        folder = Path(self.data_folder_out)
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(json.dumps(payload), encoding="utf-8")
        unfinished.rename(folder / f"{name}.{queue}.msg")

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        pass


class Transport(filesystem.Transport):
    Channel = Channel
