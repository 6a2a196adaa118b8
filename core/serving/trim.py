"""Memory that was freed, back to the system. The C library keeps what it may need again, and between tensors
that live long and tensors that don't that becomes hundreds of MB."""

import ctypes
import os
import threading
import time
from contextlib import suppress

EVERY_SECONDS = 5.0
M_ARENA_MAX = -8
"""As malloc.h has it."""
_lock = threading.Lock()
_last = -EVERY_SECONDS


def share_heaps() -> None:
    """As many heaps as there are processors; by default there are eight times as many, each of which keeps
    what its threads have freed. To be called before there are threads."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or another system
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, max(2, os.cpu_count() or 1))


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
