"""Exit with the parent process, even after `kill -9`.

`clipcite serve` sets a variable for its child processes. The parent holds the other end of this process's
standard input; the system closes it when the parent ends.
"""

import ctypes
import os
import signal
import sys
import threading
import time

CHILD = "CLIPCITE_EXIT_WITH_PARENT"
"""Variable of the child processes of `clipcite serve`."""


def die_with(parent: int) -> None:
    """Let the system kill this process when the thread that started it ends. Linux only.

    For programs without Python. Call this in the new process, with the id of its parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def is_child() -> bool:
    """Return whether `clipcite serve` has started this process."""
    return CHILD in os.environ


def exit_with_parent(*, grace_seconds: float) -> None:
    """Send this process SIGTERM when standard input closes, and exit hard after the grace period."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass  # nobody writes; only end of file matters
        if grace_seconds > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
