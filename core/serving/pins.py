"""Models that the operator wants in memory: loaded before anybody asks, and never dropped."""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from core.errors import ClipCiteError
from core.serving.engine import Engine
from core.serving.types import WeightsKey
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.errors import DatabaseUnavailable, ModelNotFound
from core.store.registry import models

logger = logging.getLogger(__name__)
AGAIN_SECONDS = 5.0


class PinnedModels:
    """Holds what the references mean now: an alias that moves takes its pin along."""

    def __init__(self, references: Sequence[str], engine: Engine, database: Database) -> None:
        self._references = references
        self._engine = engine
        self._database = database
        self._held: dict[str, ExitStack] = {}
        """By the model's id."""
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self, until: threading.Event) -> None:
        """Looks again and again."""
        while self._references and not until.is_set():
            try:
                self.refresh()
            except DatabaseUnavailable:  # the models in memory stay there
                pass
            except Exception:
                logger.exception("The pinned models could not be looked up; trying again")
            until.wait(AGAIN_SECONDS)
        self.release()

    def refresh(self) -> None:
        """Hold what is meant, and let go of the rest. What can't be had is logged once, and tried again.

        Raises DatabaseUnavailable.
        """
        with self._lock:
            rows = {row.id: row for row in map(self._row, self._references) if row is not None}
            for model, row in rows.items():
                if model not in self._held:
                    self._hold(row)
            # Last: until the new one is there, the old one may still be asked for.
            for model in [model for model in self._held if model not in rows]:
                self._held.pop(model).close()

    def release(self) -> None:
        with self._lock:
            while self._held:
                self._held.popitem()[1].close()

    def _row(self, reference: str) -> Model | None:
        owner, _, name = reference.rpartition("/")
        with self._database.read() as session:
            try:
                return models.resolve(session, name, owner=owner or DEFAULT_OWNER)
            except ModelNotFound:
                self._say(reference, f"The pinned model {reference} is not there.")
                return None

    def _hold(self, row: Model) -> None:
        with ExitStack() as held:
            try:
                acquired = self._engine.acquire(WeightsKey.of(row), row.alpha, wait_seconds=None, pin=True)
                held.enter_context(acquired)
            except ClipCiteError as error:
                self._say(row.id, f"The pinned model {row.id} can't be loaded: {error}")
            except Exception:  # the other pins are still loaded; this one is tried again
                logger.exception("The pinned model %s can't be loaded", row.id)
            else:
                self._held[row.id] = held.pop_all()

    def _say(self, key: str, what: str) -> None:
        if self._said.get(key) != what:
            logger.warning("%s", what)
        self._said[key] = what
