"""Images copied, moved or linked to their places, and put back. No file is overwritten, and none is lost."""

import errno
import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from clipcite.sorting.log import Log
from clipcite.sorting.plan import How, Place

PART = 64
"""Actions that are logged together, before the first of them."""
PREFIX, SUFFIX = ".clipcite-", ".part"
"""Name of a file that is not yet complete."""
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors that all further images would meet, too."""
Left = list[tuple[str, str]]
"""Files that were left alone, with the reasons."""


def carry_out(log: Log, places: Sequence[Place], how: How, on_done: Callable[[int], None]) -> Left:
    """Put images into their places. Return those whose files couldn't be read, written or moved.

    Raises:
        OSError: no space or a read-only disk. Everything done so far is in the log.
    """
    root, into = Path(log.subject["folder"]), log.path.parent
    targets = {place.image.path: place.target for place in places}
    places = sorted(places, key=lambda place: not place.image.path.is_symlink())  # before what they lead to
    left: Left = []
    for start in range(0, len(places), PART):
        records = []
        for place in (part := places[start : start + PART]):
            folder = into / place.folder
            if not folder.is_dir():
                log.write({"folder": place.folder})
                folder.mkdir()
            record = {"do": how, "from": str(place.image.path.relative_to(root)), "to": _below(place, into)}
            if how == "move" and place.image.path.is_symlink():
                record["link"] = str(place.image.path.readlink())
            records.append(record)
        log.write(*records)
        for place in part:
            source, target = place.image.path, place.target or into
            try:
                if how == "link":
                    target.symlink_to(source)
                elif how == "copy":
                    copy(source, target)
                elif source.is_symlink():  # a relative link would lead nowhere from another folder
                    real = source.resolve()
                    target.symlink_to(targets.get(real) or real)
                    source.unlink()
                else:
                    move(source, target)
            except OSError as error:
                if error.errno in NO_SPACE:
                    raise
                left.append((str(source), error.strerror or str(error)))
            on_done(1)
    return left


def undo(log: Log, on_done: Callable[[int], None]) -> Left:
    """Undo the actions of a log, the last one first. Return what was left alone.

    A copy is deleted only while its original has the same content, and a moved image goes back only to a
    place where nothing lies.
    """
    tidy(log)
    root, into = Path(log.subject["folder"]), log.path.parent
    left: Left = []
    for action in reversed(log.actions):
        source, target = root / action["from"], into / action["to"]
        try:
            reason = _undo(action, source, target)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            left.append((str(target), reason))
        on_done(1)
    for folder in reversed(log.folders):
        with suppress(OSError):  # not empty, or gone
            (into / folder).rmdir()
    return left


def _undo(action: dict[str, str], source: Path, target: Path) -> str | None:
    """Undo one action. Return the reason why it can't be undone, None also if there is nothing to undo."""
    if not os.path.lexists(target):
        moved = action["do"] == "move" and not os.path.lexists(source)
        return "It is no longer there, and not at its old place either." if moved else None
    if action["do"] == "link":
        if not target.is_symlink() or target.readlink() != source:
            return "It is not the link that was made."
        target.unlink()
    elif action["do"] == "copy":
        if not _is_copy(source, target):
            return f"It is not a copy of {source}, or no longer."
        target.unlink()
    elif os.path.lexists(source):
        return f"Another file lies at its old place, {source}."
    else:
        source.parent.mkdir(parents=True, exist_ok=True)
        if "link" in action:
            source.symlink_to(action["link"])
            target.unlink()
        else:
            move(target, source)
    return None


def tidy(log: Log) -> None:
    """Remove what a killed run has left: parts of files, reserved names, and copies of what it was moving."""
    root, into = Path(log.subject["folder"]), log.path.parent
    pairs = [(root / action["from"], into / action["to"]) for action in log.actions]
    for folder in {path.parent for pair in pairs for path in pair}:
        for part in folder.glob(f"{PREFIX}*{SUFFIX}"):
            part.unlink()
    for (source, target), action in zip(pairs, log.actions, strict=True):
        moves = action["do"] == "move"
        for path in (source, target) if moves else (target,):
            if path.is_file() and path.lstat().st_size == 0:
                path.unlink()
        if moves and source.is_symlink():
            if target.is_symlink() and str(source.readlink()) == action.get("link"):
                target.unlink()
        elif moves and _is_copy(source, target):
            target.unlink()


def _is_copy(source: Path, target: Path) -> bool:
    """Return whether the target is a file of its own with the content of the source."""
    if target.is_symlink() or not (source.exists() and target.exists()) or source.samefile(target):
        return False
    return filecmp.cmp(source, target, shallow=False)


def copy(source: Path, target: Path, *, durable: bool = False) -> None:
    """Copy a file with its times. The target appears when it is complete; with `durable`, the disk has it."""
    handle, name = tempfile.mkstemp(SUFFIX, PREFIX, target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
            file.flush()
            if durable:
                os.fsync(handle)
        if part.stat().st_size != source.stat().st_size:
            raise OSError(None, "The file changed while it was copied.")
        shutil.copystat(source, part)
        rename(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable and os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def move(source: Path, target: Path) -> None:
    """Move a file, also to another file system. The source is removed when the disk has the target."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, target, durable=True)
        try:
            source.unlink()
        except OSError:
            target.unlink()
            raise


def rename(source: Path, target: Path) -> None:
    """Rename a file. An empty file reserves the name first, so that no other file is replaced.

    Raises:
        FileExistsError: the target exists.
    """
    target.open("x").close()
    try:
        source.replace(target)
    except BaseException:
        target.unlink()
        raise


def _below(place: Place, into: Path) -> str:
    assert place.target is not None
    return str(place.target.relative_to(into))
