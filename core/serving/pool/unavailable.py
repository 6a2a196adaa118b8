"""Negative cache of models that can't be loaded, so that each costs only one try per interval."""

import logging
import threading
import time
from collections import OrderedDict

from core.errors import ClipCiteError

logger = logging.getLogger(__name__)
RETRY_SECONDS = 30
MAX_REMEMBERED = 10_000


class ModelUnavailable(ClipCiteError):
    """A model whose files are missing or damaged. Other models are not affected."""

    code = "model_unavailable"
    status = 503
    retry_after = RETRY_SECONDS

    @classmethod
    def because(cls, model_id: str, cause: ClipCiteError) -> "ModelUnavailable":
        """Return the error for this cause."""
        return cls(
            f"The model {model_id} can't be used: {cause} The other models are not affected. Restore its "
            "files, which takes effect within 30 s, or delete the model and train it again."
        )


class Unavailable:
    """Models that could not be loaded recently, with the reason."""

    def __init__(self, retry_seconds: float = RETRY_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._refused: OrderedDict[str, tuple[float, ModelUnavailable]] = OrderedDict()

    def check(self, model_id: str) -> None:
        """Raise ModelUnavailable if the last try was less than `retry_seconds` ago."""
        with self._lock:
            at, error = self._refused.get(model_id, (0.0, None))
        if error is not None and time.monotonic() - at < self._retry_seconds:
            raise ModelUnavailable(error.detail)  # a new one, because a traceback belongs to one request

    def refuse(self, model_id: str, cause: ClipCiteError) -> ModelUnavailable:
        """Remember and log a failure. Return the error to raise."""
        logger.error("%s can't be used, %s: %s", model_id, cause.code, cause)
        error = ModelUnavailable.because(model_id, cause)
        with self._lock:
            self._refused[model_id] = (time.monotonic(), error)
            self._refused.move_to_end(model_id)
            while len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)
        return error

    def forget(self, model_id: str) -> None:
        """Forget a model that was loaded or deleted."""
        with self._lock:
            self._refused.pop(model_id, None)

    def count(self) -> int:
        """Return the number of unavailable models."""
        with self._lock:
            return len(self._refused)
