"""Exit with the parent process, even after `kill -9`.

`clipcite serve` sets a variable for its child processes. The parent holds the other end of a child's standard
input. The system closes it when the parent ends.
"""

import ctypes
import os
import signal
import sys
import threading
import time

CHILD = "CLIPCITE_EXIT_WITH_PARENT"
"""Environment variable that `clipcite serve` sets for its child processes."""


def die_with(parent: int) -> None:
    """Make Linux send SIGKILL to this process when the thread that started it ends.

    This is for child programs that are not Python. Call it in the new process. Other systems ignore the call.

    Args:
        parent: id of the process that started it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent has already ended
            os._exit(1)


def is_child() -> bool:
    """Return whether `clipcite serve` started this process."""
    return CHILD in os.environ


def exit_with_parent(*, grace_seconds: float) -> None:
    """Send this process SIGTERM when standard input closes, and kill it after the grace period."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass  # only the end of file matters
        if grace_seconds > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
