"""Models that can't be loaded, so that each costs no more than a try now and then."""

import logging
import threading
import time
from collections import OrderedDict

from core.errors import ClipCiteError

logger = logging.getLogger(__name__)
AGAIN_SECONDS = 30
MAX_REMEMBERED = 10_000


class ModelUnavailable(ClipCiteError):
    """This model's files are missing or damaged. The others go on."""

    code = "model_unavailable"
    status = 503
    retry_after = AGAIN_SECONDS

    @classmethod
    def because(cls, model_id: str, why: ClipCiteError) -> "ModelUnavailable":
        return cls(
            f"The model {model_id} can't be used: {why} The other models are not affected. Restore its "
            "files, which is noticed within half a minute, or delete it and adapt again."
        )


class Unavailable:
    """Which models could not be loaded lately, and why."""

    def __init__(self, again_seconds: float = AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._lock = threading.Lock()
        self._refused: OrderedDict[str, tuple[float, ModelUnavailable]] = OrderedDict()

    def check(self, model_id: str) -> None:
        """Raises ModelUnavailable if its last try was less than `again_seconds` ago."""
        with self._lock:
            at, refusal = self._refused.get(model_id, (0.0, None))
        if refusal is not None and time.monotonic() - at < self._again_seconds:
            raise ModelUnavailable(refusal.detail)  # a traceback belongs to one request

    def refuse(self, model_id: str, why: ClipCiteError) -> ModelUnavailable:
        """Remember and log it; returns the error to raise."""
        logger.error("%s can't be used, %s: %s", model_id, why.code, why)
        refusal = ModelUnavailable.because(model_id, why)
        with self._lock:
            self._refused[model_id] = (time.monotonic(), refusal)
            self._refused.move_to_end(model_id)
            while len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)
        return refusal

    def forget(self, model_id: str) -> None:
        """It was loaded, or deleted."""
        with self._lock:
            self._refused.pop(model_id, None)

    def count(self) -> int:
        with self._lock:
            return len(self._refused)
