"""Images copied, moved or linked to their places, and put back. No file is overwritten, and none is lost.

Nothing is removed unless the same content has another name, or the removed link is recorded. A killed run
leaves an image under both its names at worst, or an empty file under the new one; `tidy` then removes that.
"""

import ctypes
import errno
import filecmp
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from clipcite.sorting.log import Action, How, Log
from clipcite.sorting.plan import FoundImage, Place, key_of

PART = 64
"""Actions that are logged together, before the first of them."""
PREFIX, SUFFIX = ".clipcite-", ".part"
"""Name of a file that is not yet complete."""
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
"""Errors that all further images would meet, too."""
NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of a file system without hard links, such as a memory card's."""
RENAME_NOREPLACE = 1
"""Flag of Linux' renameat2."""
Left = list[tuple[str, str]]
"""Files that were left alone, with the reasons."""


def carry_out(log: Log, places: Sequence[Place], how: How, on_done: Callable[[int], None]) -> Left:
    """Put images into their places. Return those whose files couldn't be read, written or moved.

    Raises:
        OSError: no space. Everything done so far is in the log.
    """
    root, into = folders_of(log)
    targets = {place.image.path: place.target for place in places}
    places = sorted(places, key=lambda place: not place.image.path.is_symlink())  # before what they lead to
    left: Left = []
    for start in range(0, len(places), PART):
        part: list[tuple[Place, Action]] = []
        for place in places[start : start + PART]:
            try:
                _make_folder(log, into / place.folder)
                part.append((place, _action(place, how, targets, root, into)))
            except OSError as error:
                _leave(left, place.image.path, error)
                on_done(1)
        log.write_actions([action for _, action in part])
        for place, action in part:
            try:
                _do(action, place.image, root, into)
            except OSError as error:
                _leave(left, place.image.path, error)
            on_done(1)
    return left


def _action(place: Place, how: How, targets: Mapping[Path, Path | None], root: Path, into: Path) -> Action:
    """Return what to do with an image. A moved link leads to where its file is after the sort."""
    source, target = place.image.path, place.target or into
    moved = Action(how, str(source.relative_to(root)), str(target.relative_to(into)))
    if how == "link":
        return replace(moved, made=str(source))
    if how == "move" and source.is_symlink():  # a relative link would lead nowhere from another folder
        real = Path(os.path.realpath(source))
        return replace(moved, link=str(source.readlink()), made=str(targets.get(real) or real))
    return moved


def _make_folder(log: Log, folder: Path) -> None:
    """Make a class folder, unless there is one. The log has it before."""
    if not folder.is_dir():
        if folder.name not in log.folders:
            log.write({"folder": folder.name})
        folder.mkdir()
    _check(folder)


def _do(action: Action, image: FoundImage, root: Path, into: Path) -> None:
    """Put one image into its place, unless it has changed since it was classified."""
    source, target = image.path, into / action.target
    if action.link is not None:
        changed = not _leads_to(source, action.link)
    else:
        changed = key_of(source, root) != image.key or (action.how == "move" and source.is_symlink())
    if changed:
        raise OSError(None, "It has changed since it was classified.")
    if action.made is not None:
        target.symlink_to(action.made)
        if action.link is not None:
            source.unlink()
    elif action.how == "copy":
        copy(source, target)
    else:
        move(source, target)


def _leave(left: Left, path: Path, error: OSError) -> None:
    """Note the reason why a file is left alone. A full disk ends the sort."""
    if error.errno in NO_SPACE:
        raise error
    left.append((str(path), error.strerror or str(error)))


def undo(log: Log, on_done: Callable[[int], None]) -> Left:
    """Undo the actions of a log, the last one first. Return what was left alone.

    A copy is deleted only while its original has the same content, and a moved image goes back only to a
    place where nothing lies.
    """
    tidy(log)
    root, into = folders_of(log)
    left: Left = []
    for action in dict.fromkeys(reversed(log.actions)):
        target = into / action.target
        try:
            reason = _undo(action, root / action.source, target)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            left.append((str(target), reason))
        on_done(1)
    for folder in reversed(log.folders):
        with suppress(OSError):  # not empty, or gone
            _check(into / folder)
            (into / folder).rmdir()
    return left


def _undo(action: Action, source: Path, target: Path) -> str | None:
    """Undo one action. Return the reason why it can't be undone, None even if there is nothing to undo."""
    _check(source.parent)
    _check(target.parent)
    if not _exists(target):
        moved = action.how == "move" and not _exists(source)
        return "It is no longer there, and not at its old place either." if moved else None
    if action.made is not None and not _leads_to(target, action.made):
        return "It is not the link that the sort made."
    if action.how == "copy":
        state = target.lstat()
        if not _is_copy(source, target):
            return f"It is not, or no longer, a copy of {source}."
        _unlink(target, state)
    elif action.how == "link":
        target.unlink()
    elif _exists(source):
        return f"Another file lies at its old place, {source}."
    else:
        source.parent.mkdir(parents=True, exist_ok=True)
        if action.link is not None:
            source.symlink_to(action.link)
            target.unlink()
        elif stat.S_ISREG(target.lstat().st_mode):
            move(target, source)
        else:
            return "It is not the file that was moved."
    return None


def tidy(log: Log) -> None:
    """Remove what a killed run has left: parts of files, empty ones, and second names of what it was moving.

    A pair or folder whose files can't be read is left as it is.
    """
    root, into = folders_of(log)
    for folder in {path.parent for a in log.actions for path in (root / a.source, into / a.target)}:
        with suppress(OSError):
            _check(folder)
            for part in folder.glob(f"{PREFIX}*{SUFFIX}"):
                part.unlink()
    for action in log.actions:
        if action.how != "link":
            with suppress(OSError):
                _tidy(action, root / action.source, into / action.target)


def _tidy(action: Action, source: Path, target: Path) -> None:
    """Remove the new name of an image that still has its old one, or the one that only holds a name."""
    old, new = source.lstat(), target.lstat()
    _check(source.parent)
    _check(target.parent)
    if source.parent.samefile(target.parent):
        return  # perhaps one name, in upper and lower case
    if action.link is not None:
        if _leads_to(source, action.link) and _leads_to(target, action.made):
            target.unlink()
    elif not stat.S_ISREG(new.st_mode):
        return
    elif not new.st_size and source.stat().st_size:
        _unlink(target, new)
    elif action.how == "move" and stat.S_ISREG(old.st_mode):
        if not old.st_size and new.st_size:  # of a killed undoing
            _unlink(source, old)
        elif os.path.samestat(old, new) or _is_copy(source, target):
            _unlink(target, new)


def folders_of(log: Log) -> tuple[Path, Path]:
    """Return the folder that is sorted, and the folder of the class folders."""
    return Path(log.subject["folder"]).resolve(), log.path.parent.resolve()


def _check(folder: Path) -> None:
    """Raise if a folder isn't where its path says."""
    if os.path.realpath(folder) != str(folder):
        raise OSError(None, f"{folder} is a link to another folder, or lies behind one.")


def _exists(path: Path) -> bool:
    """Return whether there is a file or link. An unreadable folder is an error."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _leads_to(path: Path, target: str | None) -> bool:
    return path.is_symlink() and str(path.readlink()) == target


def _is_copy(source: Path, target: Path) -> bool:
    """Return whether the target is a file of its own with the content of the source."""
    if target.is_symlink() or not (source.exists() and target.exists()) or source.samefile(target):
        return False
    filecmp.clear_cache()  # it knows files by their size and time
    return filecmp.cmp(source, target, shallow=False)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether a file is still the same one, without edits."""
    return (
        os.path.samestat(one, other) and one.st_size == other.st_size and one.st_mtime_ns == other.st_mtime_ns
    )


def _unlink(path: Path, state: os.stat_result) -> None:
    """Remove a file that has another name or a copy, unless it was changed or replaced meanwhile."""
    if not _same(path.lstat(), state):
        raise OSError(None, "It was changed meanwhile.")
    path.unlink()


def copy(source: Path, target: Path, *, durable: bool = False) -> os.stat_result:
    """Copy a file with its times. The target appears when it is complete; with `durable`, the disk has it.

    Returns:
        State of the source that was copied.
    """
    handle, name = tempfile.mkstemp(SUFFIX, PREFIX, target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, source.open("rb") as original:
            state = os.fstat(original.fileno())
            shutil.copyfileobj(original, file)
            file.flush()
            with suppress(PermissionError):  # a disk without permissions
                shutil.copystat(source, part)
            if durable:
                os.fsync(handle)
        if not _same(source.stat(), state):
            raise OSError(None, "It was changed while it was copied.")
        rename(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return state


def move(source: Path, target: Path) -> None:
    """Move a file, even to another file system. The source is removed when the disk has the target."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not os.access(source.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "Its folder can't be written to.") from None
        state = copy(source, target, durable=True)
        made = target.lstat()
        try:
            _unlink(source, state)
        except FileNotFoundError:  # moved away meanwhile
            return
        except OSError:
            _unlink(target, made)
            raise


def _rename_without_links(source: Path, target: Path) -> None:
    """Rename as `rename` does. Linux renames and checks the target in one step; others take the name before,
    with an empty file.
    """
    rename_new = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename_new is not None:
        names = os.fsencode(source.absolute()), os.fsencode(target.absolute())
        if not rename_new(0, names[0], 0, names[1], RENAME_NOREPLACE):
            return
        if (failed := ctypes.get_errno()) not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(failed, os.strerror(failed))
    target.touch(exist_ok=False)
    try:
        source.rename(target)
    except BaseException:
        if _exists(source):  # not renamed
            target.unlink()
        raise


def rename(source: Path, target: Path) -> None:
    """Give a file another name, which nothing else has.

    Raises:
        FileExistsError: the target exists.
    """
    old = source.lstat()
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _rename_without_links(source, target)
        return
    try:
        now = source.lstat()
        if not (os.path.samestat(now, target.lstat()) or _same(now, old)):
            raise OSError(None, "It was replaced while it was moved. The old one is at its new place.")
        source.unlink()
    except FileNotFoundError:  # moved away meanwhile
        return
    except PermissionError:
        target.unlink()
        raise
