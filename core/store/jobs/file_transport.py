"""Celery messages as files: the broker of one machine without a server.

kombu's own, with two things set right for us. It writes a message in place, so that a worker can
take it while it is still empty, and stop at the broken JSON; here it gets its name when it is
whole. And it keeps a table of exchanges in a file, which two processes that start together can
read half written; we send straight to the queue's name and need no table.
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
        # Sorted by name they are taken in the order of sending, also after a restart of the machine.
        name = f"{time.time_ns():020d}_{uuid.uuid4()}"
        folder = Path(self.data_folder_out)
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(json.dumps(payload), encoding="utf-8")
        unfinished.rename(folder / f"{name}.{queue}.msg")

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        pass


class Transport(filesystem.Transport):
    Channel = Channel
