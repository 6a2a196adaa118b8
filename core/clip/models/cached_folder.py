"""Folders of the cache that are built once, by one of several processes."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def build_once(folder: Path, build: Callable[[Path], object]) -> None:
    """Let `build` fill a temporary folder that becomes `folder`, unless that exists.

    Readers never see an incomplete folder. Of several processes that build it, the first one wins.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        build(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process built it first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
