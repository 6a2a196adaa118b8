"""Liveness probe: a running process touches a file, and the health check reads the file's age.

The file is for a container, which has one such process and a temporary folder of its own.
Standard library only: containers run the check twice a minute, and importing torch takes seconds.
"""

import logging
import threading
import time
from pathlib import Path

ALIVE = Path("/tmp/clipcite-alive")  # not TMPDIR, which containers may share
TOUCH_SECONDS = 10
FRESH_SECONDS = 120
"""Longer than a dispatcher round with a slow database and a slow broker."""
logger = logging.getLogger(__name__)


class LivenessFile:
    """A file that a process touches while it runs."""

    def __init__(self, path: Path = ALIVE) -> None:
        self._path = path
        self._due = 0.0

    def touch(self) -> None:
        """Touch the file, at most every `TOUCH_SECONDS`. An error is logged only: the health check fails."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + TOUCH_SECONDS
        try:
            self._path.touch()
        except OSError as error:
            logger.error("Can't touch %s (%s). Make the folder writable.", self._path, error.strerror)

    def keep_touching(self) -> None:
        """Touch the file in a thread, until the process ends or freezes."""

        def keep() -> None:
            while True:
                self.touch()
                time.sleep(TOUCH_SECONDS)

        threading.Thread(target=keep, name="alive", daemon=True).start()


def problem_of(path: Path = ALIVE) -> str | None:
    """Return why the process behind the file seems dead, or None if it is alive."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as error:
        return f"{path}: {error.strerror}. No worker or dispatcher runs here."
    if age > FRESH_SECONDS:
        return f"{path} was last touched {age:.0f} s ago: the process hangs or has ended. Restart it."
    return None
