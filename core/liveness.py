"""Liveness probe: a running process touches a file, and the health check reads the file's age.

Standard library only: containers run the check twice a minute, and importing torch takes seconds.
"""

import logging
import threading
import time
from pathlib import Path

TOUCH_SECONDS = 10
FRESH_SECONDS = 120
"""Longer than a dispatcher round with a slow database and a slow broker."""
logger = logging.getLogger(__name__)


class LivenessFile:
    """A file that a process touches while it runs. Without a path, nothing happens."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due = 0.0

    def touch(self) -> None:
        """Touch the file, at most every `TOUCH_SECONDS`. An error is logged only: the health check fails."""
        now = time.monotonic()
        if self._path is None or now < self._due:
            return
        self._due = now + TOUCH_SECONDS
        try:
            self._path.touch()
        except OSError as error:
            logger.error(
                "Can't touch %s (%s). Set CLIPCITE_LIVENESS_FILE to a writable path.",
                self._path,
                error.strerror,
            )

    def keep_touching(self) -> None:
        """Touch the file in a thread, until the process ends or freezes."""

        def keep() -> None:
            while True:
                self.touch()
                time.sleep(TOUCH_SECONDS)

        if self._path is not None:
            threading.Thread(target=keep, name="alive", daemon=True).start()


def problem_of(path: Path) -> str | None:
    """Return why the process behind the file seems dead, or None if it is alive."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as error:
        return f"{path}: {error.strerror}. Start the process with CLIPCITE_LIVENESS_FILE={path}."
    if age > FRESH_SECONDS:
        return f"{path} was last touched {age:.0f} s ago: the process hangs or has ended. Restart it."
    return None
