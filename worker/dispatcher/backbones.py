"""Downloads of backbones that were requested in the page, each in a process of its own.

`python -m worker.dispatcher.backbones NAME` is this process. It downloads, checks and loads the backbone, and
measures its speed. Dispatchers with one cache take turns by the lock of the download.
"""

import os
import subprocess
import sys

from core.clip.models import installed
from core.errors import ClipCiteError
from core.parent_watch import exit_with_parent
from core.settings import Settings, get_settings
from core.store import backbones
from core.store.db.session import Database

NICE = 10
"""Reduction of the priority: classifications come first."""


class Downloads:
    """The download in progress, if there is one."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._name = ""
        self._process: subprocess.Popen[str] | None = None

    def round(self) -> None:
        """Start the oldest requested download, stop one that is no longer requested, or report its end."""
        with self._database.read() as session:
            wanted = [row.name for row in backbones.pulls(session) if row.error is None]
        if self._process is not None and self._name not in wanted:
            self.stop()
        elif self._process is not None and self._process.poll() is not None:
            self._report(self._process)
            self._process = None
        elif self._process is None and wanted:
            self._name = wanted[0]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.dispatcher.backbones", self._name],
                stdin=subprocess.PIPE,  # closes when this process ends, which ends the download
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the download. The next one continues with what has arrived."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _report(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        said = process.stdout.read().strip()
        error = None
        if process.returncode:
            error = said or (
                f"The download or the check ended with status {process.returncode}. The usual cause is a "
                "lack of memory. Close other programs, then try again."
            )
        with self._database.write() as session:
            backbones.end_pull(session, self._settings, self._name, error)


def main() -> None:
    exit_with_parent(grace_seconds=0)
    os.nice(NICE)
    from core.clip.models.backbone import check_installed  # with torch, which the dispatcher does without

    settings = get_settings()
    try:
        installed.install(sys.argv[1], settings.cache)
        check_installed(sys.argv[1], settings.cache, settings.device)
    except ClipCiteError as error:
        sys.stdout.write(error.detail)
        sys.exit(1)


if __name__ == "__main__":
    main()
