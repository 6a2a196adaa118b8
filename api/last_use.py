"""Times of the last use of keys and models, written by a thread of its own, not in the request's path."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.orm import Session

from core.store.accounts import api_keys
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.registry import models

logger = logging.getLogger(__name__)
MAX_IDS = 10_000
"""Maximum number of ids in memory. Beyond that, uses are written more often."""


class LastUse:
    """Recorder of uses: at most one write per id and step."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="last-use")
        self._noted: dict[str, float] = {}

    def of_key(self, key_id: str) -> None:
        """Note a use of a key."""
        self._note(key_id, api_keys.LAST_USED_STEP.total_seconds(), api_keys.record_use)

    def of_model(self, model_id: str) -> None:
        """Note a use of a model."""
        self._note(model_id, models.LAST_USED_STEP.total_seconds(), models.record_use)

    def _note(self, id: str, step: float, record: Callable[[Session, str], None]) -> None:
        now = time.monotonic()
        if now - self._noted.get(id, -step) < step:
            return
        if len(self._noted) >= MAX_IDS:
            self._noted.clear()
        self._noted[id] = now
        self._thread.submit(self._write, id, record)

    def _write(self, id: str, record: Callable[[Session, str], None]) -> None:
        try:
            with self._database.write() as session:
                record(session, id)
        except DatabaseUnavailable:  # the next use is noted again
            self._noted.pop(id, None)
        except Exception:
            logger.exception("%s: the last use could not be recorded", id)

    def flush(self) -> None:
        """Wait until the uses so far are written."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Stop the thread after the uses so far."""
        self._thread.shutdown(wait=False)
