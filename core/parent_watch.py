"""End with the parent process, however that one ends (also by `kill -9`): the parent holds the other
end of our standard input, and the system closes it when the parent is gone."""

import os
import signal
import sys
import threading
import time


def exit_with_parent(*, grace_seconds: float) -> None:
    """Ask ourselves to stop (SIGTERM) when standard input closes, and insist after the grace."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass  # nobody writes; only the end matters
        if grace_seconds > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="leash", daemon=True).start()
