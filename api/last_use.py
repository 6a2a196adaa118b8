"""Times of the last use of keys, written in a separate thread so that requests do not wait."""

import logging
from concurrent.futures import ThreadPoolExecutor

from core.store.accounts import api_keys
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)


class LastUse:
    """Recorder of uses. At most one write per key waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="last-use")
        self._waiting: set[str] = set()

    def of_key(self, key_id: str) -> None:
        """Note a use of a key."""
        if key_id not in self._waiting:
            self._waiting.add(key_id)
            self._thread.submit(self._write, key_id)

    def _write(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                api_keys.record_use(session, key_id)
        except DatabaseUnavailable:
            pass  # the next use is recorded
        except Exception:
            logger.exception("%s: the last use could not be recorded", key_id)
        finally:
            self._waiting.discard(key_id)

    def close(self) -> None:
        """Record the waiting uses, then stop the thread."""
        self._thread.shutdown(wait=False)
