"""Pinned models: loaded at startup and never evicted."""

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
REFRESH_SECONDS = 5.0


class PinnedModels:
    """A set of models in memory, given by references; moved aliases are followed."""

    def __init__(self, references: Sequence[str], engine: Engine, database: Database) -> None:
        self._references = references
        self._engine = engine
        self._database = database
        self._held: dict[str, ExitStack] = {}
        """Acquisitions by model id."""
        self._logged: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self, until: threading.Event) -> None:
        """Refresh the pins at intervals, until `until` is set; then release them."""
        while self._references and not until.is_set():
            try:
                self.refresh()
            except DatabaseUnavailable:  # the models in memory stay
                pass
            except Exception:
                logger.exception("The pinned models could not be looked up. Retrying.")
            until.wait(REFRESH_SECONDS)
        self.release()

    def refresh(self) -> None:
        """Load the models that the references now denote, and release all others.

        A failure is logged once; the next refresh tries again.

        Raises DatabaseUnavailable.
        """
        with self._lock:
            rows = {row.id: row for row in map(self._row, self._references) if row is not None}
            for model, row in rows.items():
                if model not in self._held:
                    self._hold(row)
            # Last: the old model may still be requested until the new one is loaded.
            for model in [model for model in self._held if model not in rows]:
                self._held.pop(model).close()

    def release(self) -> None:
        """Release all models."""
        with self._lock:
            while self._held:
                self._held.popitem()[1].close()

    def _row(self, reference: str) -> Model | None:
        owner, _, name = reference.rpartition("/")
        with self._database.read() as session:
            try:
                return models.resolve(session, name, owner=owner or DEFAULT_OWNER)
            except ModelNotFound:
                self._log(
                    reference,
                    f"The pinned model {reference} does not exist. Train or import it, or correct "
                    "CLIPCITE_PINNED_MODELS.",
                )
                return None

    def _hold(self, row: Model) -> None:
        with ExitStack() as held:
            try:
                acquired = self._engine.acquire(WeightsKey.of(row), row.alpha, wait_seconds=None, pin=True)
                held.enter_context(acquired)
            except ClipCiteError as error:
                self._log(row.id, f"The pinned model {row.id} can't be loaded: {error}")
            except Exception:  # the other pins are still loaded; the next refresh tries again
                logger.exception("The pinned model %s can't be loaded", row.id)
            else:
                self._held[row.id] = held.pop_all()

    def _log(self, key: str, message: str) -> None:
        if self._logged.get(key) != message:
            logger.warning("%s", message)
        self._logged[key] = message
