"""Memory that was freed, back to the system. The C library keeps what it may need again, and between tensors
that live long and tensors that don't that becomes hundreds of MB."""

import ctypes
import threading
import time
from contextlib import suppress

EVERY_SECONDS = 5.0
_lock = threading.Lock()
_last = -EVERY_SECONDS


def trim() -> None:
    """Now and then at most: it takes some milliseconds."""
    global _last
    with _lock:
        due = time.monotonic() - _last >= EVERY_SECONDS
        if due:
            _last = time.monotonic()
    if due:
        with suppress(OSError, AttributeError, TypeError):  # another C library, or another system
            ctypes.CDLL(None).malloc_trim(0)
