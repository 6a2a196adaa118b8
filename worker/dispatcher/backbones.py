"""Downloads of requested backbones, one at a time, each in its own process."""

import subprocess

from core.clip.errors import BackboneUnavailable
from core.clip.models.backbones import finish, start
from core.settings import Settings
from core.store import backbones
from core.store.db.session import Database


class Downloads:
    """The download in progress, if any."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._name = ""
        self._process: subprocess.Popen[str] | None = None

    def round(self) -> None:
        """Start the oldest requested download, stop one that is no longer requested, or record its end."""
        with self._database.read() as session:
            wanted = [row.name for row in backbones.pulls(session) if row.error is None]
        if self._process is not None and self._name not in wanted:
            self.stop()
        elif self._process is not None and self._process.poll() is not None:
            error = None
            try:
                finish(self._process)
            except BackboneUnavailable as failed:
                error = failed.detail
            self._process = None
            with self._database.write() as session:
                backbones.end_pull(session, self._settings, self._name, error)
        elif self._process is None and wanted:
            self._name = wanted[0]
            self._process = start(self._name, self._settings.cache, self._settings.device)

    def stop(self) -> None:
        """Stop the download and remove its files."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None
