"""Times of the last use of keys, written by a thread of its own, not in the request's path."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from core.store.accounts import api_keys
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)
MAX_IDS = 10_000
"""Maximum number of ids in memory. Beyond that, uses are written more often."""


class LastUse:
    """Recorder of uses: at most one write per key and step."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="last-use")
        self._noted: dict[str, float] = {}

    def of_key(self, key_id: str) -> None:
        """Note a use of a key."""
        now, step = time.monotonic(), api_keys.LAST_USED_STEP.total_seconds()
        if now - self._noted.get(key_id, -step) < step:
            return
        if len(self._noted) >= MAX_IDS:
            self._noted.clear()
        self._noted[key_id] = now
        self._thread.submit(self._write, key_id)

    def _write(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                api_keys.record_use(session, key_id)
        except DatabaseUnavailable:  # the next use is noted again
            self._noted.pop(key_id, None)
        except Exception:
            logger.exception("%s: the last use could not be recorded", key_id)

    def flush(self) -> None:
        """Wait until the uses so far are written."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Stop the thread after the uses so far."""
        self._thread.shutdown(wait=False)
