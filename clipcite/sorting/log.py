"""Log of a sort: what happened to files, as lines of JSON. From it a sort continues and is undone."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Literal

from clipcite.datasets.image import IMAGE_ENDINGS

How = Literal["copy", "move", "link"]


@dataclass(frozen=True, slots=True)
class Action:
    """One image copied, moved or linked. The log has it before it is done."""

    how: How
    source: str
    """Path below the folder that is sorted."""
    target: str
    """Path below the folder of the log."""
    link: str | None = None
    """Where the source leads, if it is a link that is moved."""
    made: str | None = None
    """Where the target leads, if it is a link."""


ACTIONS = {("copy", False, False), ("move", False, False), ("move", True, True), ("link", False, True)}
"""Kinds of actions: how, and whether source and target are links that were recorded."""


class Log:
    """Records of one folder and pile (`subject`), in memory and in a file. Actions are in their order."""

    def __init__(self, path: Path) -> None:
        """Read the file. Lines that were cut off or damaged are skipped and counted."""
        self.path = path
        self.subject: dict[str, Any] = {}
        self.folders: list[str] = []
        self.actions: list[Action] = []
        self.damaged = 0
        with path.open("rb") as lines:
            for line in filter(bytes.strip, lines):
                try:
                    self._take(json.loads(line))
                except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
                    self.damaged += 1

    def write(self, *records: dict[str, Any]) -> None:
        """Append records, and wait until the disk has them. After an error, the file is as it was."""
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write("".join(f"\n{json.dumps(record)}" for record in records).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.path, size)
            raise
        for record in records:
            self._take(record)

    def write_actions(self, actions: Sequence[Action]) -> None:
        """Append actions, before they are done."""
        records = [{"do": a.how, "from": a.source, "to": a.target} for a in actions]
        for record, action in zip(records, actions, strict=True):
            if action.made is not None:
                record["made"] = action.made
            if action.link is not None:
                record["link"] = action.link
        self.write(*records)

    def _take(self, record: Any) -> None:
        """Read a record.

        Raises:
            ArithmeticError, LookupError, TypeError, ValueError: this command wrote no such record.
        """
        match record:
            case {"subject": {"folder": str(folder)} as subject}:
                if not Path(_path(folder)).is_absolute():
                    raise ValueError(folder)
                self.subject = subject
            case {"folder": str(folder)}:
                self.folders.append(_below(folder))
            case {"do": how, "from": str(source), "to": str(target)}:
                link, made = record.get("link"), record.get("made")
                if (how, link is not None, made is not None) not in ACTIONS:
                    raise ValueError(record)
                if not {Path(source).suffix.lower(), Path(target).suffix.lower()} <= IMAGE_ENDINGS:
                    raise ValueError(record)
                for text in filter(None, (link, made)):
                    _path(text)
                self.actions.append(Action(how, _below(source), _below(target), link, made))
            case _:
                raise ValueError(record)


def _path(text: str) -> str:
    """Return a path that the system accepts."""
    os.fsencode(text)
    if "\0" in text:
        raise ValueError(text)
    return text


def _below(text: str) -> str:
    """Return a path below a folder, whose parts are visible: neither absolute nor with `..`."""
    parts = PurePath(_path(text)).parts
    if not parts or any(part.startswith((".", os.sep)) for part in parts):
        raise ValueError(text)
    return text


@contextmanager
def locked(*folders: Path) -> Iterator[None]:
    """Keep other sorts out of these folders, until the block or the process ends.

    The last folder is created, and removed again if it is empty at the end. A folder that doesn't exist or
    can't be read, or whose file system has no locks, is left out.

    Raises:
        BlockingIOError: another sort has one of them.
    """
    import fcntl  # Windows has no such module

    with ExitStack() as stack:
        held, made = set(), False
        for folder in folders:
            last = folder is folders[-1]
            if last and not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)  # another sort may have made it meanwhile
                made = True
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, handle)
                state = os.fstat(handle)
                if (state.st_dev, state.st_ino) not in held:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.add((state.st_dev, state.st_ino))
                folder.stat()  # another sort may have removed it
            except OSError as error:
                if isinstance(error, BlockingIOError) or (last and isinstance(error, FileNotFoundError)):
                    reason = "Another sort of this folder is running. Wait until it ends"
                    raise BlockingIOError(errno.EWOULDBLOCK, reason, str(folder)) from None
        if made:
            stack.callback(_remove_empty, folders[-1])  # while it is locked
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def logs_of(into: Path, folder: Path) -> list[Log]:
    """Return the logs of the sorts of a folder, oldest first."""
    logs = [Log(path) for path in sorted(into.glob("clipcite-sort-*.jsonl")) if path.is_file()]
    return [log for log in logs if log.subject.get("folder") == str(folder)]


def open_log(into: Path, subject: dict[str, Any]) -> tuple[Log, list[Log]]:
    """Return the log of this subject, and the other logs of its folder.

    Args:
        into: folder of the logs, which is created.
        subject: `folder`, and `pile`, the id of its pile.
    """
    into.mkdir(parents=True, exist_ok=True)
    found = logs_of(into, Path(subject["folder"]))
    others = [log for log in found if log.subject != subject]
    if len(others) < len(found):
        return next(log for log in reversed(found) if log.subject == subject), others
    path = into / f"clipcite-sort-{datetime.now():%Y%m%d-%H%M%S-%f}.jsonl"
    path.touch(exist_ok=False)
    log = Log(path)
    log.write({"subject": subject})
    return log, others
