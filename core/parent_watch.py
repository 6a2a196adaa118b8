"""Exit with the parent process, even after `kill -9`.

The parent holds the other end of this process's standard input; the system closes it when the parent ends.
"""

import os
import signal
import sys
import threading
import time


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
