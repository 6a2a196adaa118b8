"""Word that a process is at work: it touches a file, and a health check looks how old that is.

    python -m core.liveness FILE      status 0 if FILE was touched within the last two minutes, else 1

Standard library only, since a container asks every half minute and torch takes seconds to import.
"""

import logging
import sys
import threading
import time
from pathlib import Path

TOUCH_SECONDS = 10
FRESH_SECONDS = 120
"""Longer than a round of the dispatcher takes while database and broker answer slowly."""
logger = logging.getLogger(__name__)


class LivenessFile:
    """Without a path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due = 0.0

    def touch(self) -> None:
        """From a loop, as often as it likes. That the file can't be touched is logged and ends nothing:
        the health check says the rest."""
        now = time.monotonic()
        if self._path is None or now < self._due:
            return
        self._due = now + TOUCH_SECONDS
        try:
            self._path.touch()
        except OSError as error:
            logger.error(
                "Can't touch %s (%s). Choose another CLIPCITE_LIVENESS_FILE.", self._path, error.strerror
            )

    def keep_touching(self) -> None:
        """From a thread, until the process ends or is frozen."""

        def keep() -> None:
            while True:
                self.touch()
                time.sleep(TOUCH_SECONDS)

        if self._path is not None:
            threading.Thread(target=keep, name="alive", daemon=True).start()


def problem_of(path: Path) -> str | None:
    """Why the process of that file does not seem to be at work; None if it does."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as error:
        return f"{path}: {error.strerror}. Was the process started with CLIPCITE_LIVENESS_FILE, and is it up?"
    if age > FRESH_SECONDS:
        return f"{path} was last touched {age:.0f} s ago: the process hangs or is gone. Start it again."
    return None


if __name__ == "__main__":
    sys.exit(problem_of(Path(sys.argv[1])))
