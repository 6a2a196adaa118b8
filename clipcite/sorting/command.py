"""`clipcite sort`: put the images of a folder into a folder per class."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from clipcite.cli.classify import Classes, class_names, is_stock
from clipcite.cli.connection import (
    Exit,
    Key,
    Url,
    Yes,
    confirm,
    connected,
    give_up,
    stderr,
    stdout,
    write_file,
)
from clipcite.cli.references import find_model
from clipcite.cli.render.tables import as_csv, print_table, table_of
from clipcite.datasets.dataset import count_noun
from clipcite.datasets.image import printable
from clipcite.sorting.files import Left, carry_out, tidy, undo
from clipcite.sorting.log import How, Log, locked, open_log
from clipcite.sorting.plan import UNSURE, Image, Place, find_images, plan, without_sorted
from clipcite.sorting.teaching import ask_labels, correct, still_wrong, train_again

DONE = {"copy": "copied", "move": "moved", "link": "linked"}
MAX_LABELS = 1_000
"""Labels of a round: `MAX_SUGGESTED` of a request to the service."""
SHOWN = 10
"""Files with a reason that are listed."""


def sort(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Folder of images, also in folders below.", file_okay=False),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model: id, name, name@version, name@alias, or stock.")
    ] = "stock",
    classes: Classes = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder of the class folders (default: FOLDER-sorted).", file_okay=False),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images (default).")] = False,
    move: Annotated[bool, typer.Option("--move", help="Move the images.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links, which need no space.")] = False,
    unsure: Annotated[
        float, typer.Option(min=0, max=1, help="Images below this probability go to the folder unsure.")
    ] = 0.6,
    label: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_LABELS,
            help="First ask for the classes of this many images, and train again with them.",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the plan to a CSV file.", dir_okay=False),
    ] = None,
    undo_log: Annotated[
        Path | None,
        typer.Option("--undo", metavar="LOG", help="Undo the sort of this log.", exists=True, dir_okay=False),
    ] = None,
    yes: Yes = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Sort images into a folder per class.

    Shows the plan and asks before it copies, moves or links. Nothing is overwritten. After an interruption,
    the same command continues.
    """
    from clipcite.sorting.asking import ask, ask_again  # loads pydantic, which help does not need

    if undo_log is not None:
        with _explained("Give the same command again."):
            _undo(undo_log, yes=yes)
        return
    if folder is None or not folder.is_dir():
        raise typer.BadParameter("must be a folder of images.", param_hint="FOLDER")
    if copy + move + link > 1:
        raise typer.BadParameter("exclude each other.", param_hint="--copy, --move and --link")
    if is_stock(model) and (classes is None or label):
        raise typer.BadParameter("needs --classes and takes no --label if it is stock.", param_hint="--model")
    how: How = "move" if move else "link" if link else "copy"
    folder = folder.resolve()
    into = into.resolve() if into else folder.with_name(f"{folder.name}-sorted")
    names = None if classes is None else class_names(classes)
    advice = "The same command continues."
    with connected(url, key) as client, _explained(advice), locked(folder, into):
        found = find_images(folder, into)
        if not found:
            raise typer.BadParameter(f"has no images: {folder}.", param_hint="FOLDER")
        used = None if is_stock(model) else client.models.get(find_model(client, model))
        while True:
            given = names or dict.fromkeys(used.trained_classes if used else ())
            subject = {"folder": str(folder), "model": used.id if used else model, "classes": given}
            log, images = _open(into, subject, found)
            with _bar("asking", len(images)) as on_done:
                ask(client, log, images, names, on_done)
            reason, suggested = ask_again(client, log, images, names, label or 0)
            if reason is not None:
                stderr().print(reason, markup=False, soft_wrap=True)
            if used is None or label is None:
                break
            stderr().print(still_wrong(log, images))
            labelled = ask_labels(log, suggested, list(given))
            if not labelled:
                break
            correct(used, log, labelled)
            if not yes and not typer.confirm("Train again with these corrections?", err=True):
                break
            used = train_again(client, used)
            if names is not None:
                for image in labelled:
                    names.setdefault(log.labels[image.key], None)
        places = plan(images, log, into, unsure, how)
        print_table(stdout(), _table(places, into))
        if csv_file is not None:
            write_file(csv_file, as_csv(_rows(places)))
        waiting = [place for place in places if place.target and not place.done]
        left: Left = []
        if waiting:
            todo = f"{how.capitalize()} {count_noun(len(waiting), 'image')} into {into}?"
            if not yes and not typer.confirm(printable(todo), err=True):
                raise typer.Exit(Exit.FAILED)
            with _bar(DONE[how], len(waiting)) as on_done:
                left = carry_out(log, waiting, how, on_done)
        _print_end(f"{DONE[how].capitalize()} {count_noun(len(waiting) - len(left), 'image')}.", left)
        stdout().print(f"undo  {_undoing(log)}", markup=False, soft_wrap=True)
        if left or len(places) > sum(place.target is not None for place in places):
            raise typer.Exit(Exit.FAILED)


def _undo(path: Path, *, yes: bool) -> None:
    folder = Path(Log(path).subject.get("folder", ""))
    if not folder.is_absolute():
        raise typer.BadParameter(f"{printable(str(path))} is no log of `clipcite sort`.", param_hint="--undo")
    with locked(folder, path.parent):
        log = Log(path)
        actions = len(set(log.actions))
        confirm(printable(f"Undo the sort of {count_noun(actions, 'image')} of {folder}?"), yes=yes)
        with _bar("undoing", actions) as on_done:
            left = undo(log, on_done)
        exceptions = f", {count_noun(len(left), 'image')} excepted" if left else ""
        _print_end(f"Undone{exceptions}.", left)
        _count_damaged(log)
        if left or log.damaged:
            raise typer.Exit(Exit.FAILED)


def _open(into: Path, subject: dict[str, Any], images: Sequence[Image]) -> tuple[Log, list[Image]]:
    """Open the log of this sort, and say what it continues. Return it with the images to sort."""
    log, others = open_log(into, subject)
    tidy(log)
    if log.answers:
        stderr().print(printable(f"Continues {log.path}."), markup=False, soft_wrap=True)
    _count_damaged(log)
    for other in others:
        if any(os.path.lexists(into / action.target) for action in other.actions):
            note = f"{into} has images of a sort with another model or other classes. To undo that one first:"
            stderr().print(f"{printable(note)} {_undoing(other)}", markup=False, soft_wrap=True)
    return log, without_sorted(images, log, others)


def _undoing(log: Log) -> str:
    return printable(f"clipcite sort --undo {shlex.quote(str(log.path))}")


def _count_damaged(log: Log) -> None:
    if log.damaged:
        note = f"Skipped {count_noun(log.damaged, 'damaged record')} of {log.path}."
        stderr().print(printable(note), markup=False, soft_wrap=True)


def _table(places: Sequence[Place], into: Path) -> Table:
    """Return the number of images per class, then of the unsure and the unreadable ones."""
    counts = Counter(
        (place.target is None, place.folder == UNSURE, place.folder, place.class_name)
        if place.folder != UNSURE
        else (False, True, UNSURE, UNSURE)
        for place in places
    )
    table = table_of("class", "images", "folder")
    for (unreadable, _, folder, name), number in sorted(counts.items()):
        shown = ("unreadable", "stays") if unreadable else (printable(name), printable(str(into / folder)))
        table.add_row(Text(shown[0]), f"{number:,}", Text(shown[1]))
    return table


def _rows(places: Sequence[Place]) -> Iterator[Sequence[object]]:
    """Yield a header, then a row per image."""
    yield "file", "class", "probability", "second class", "unsure", "target"
    for place in places:
        probabilities = dict(place.answer.ranked)
        second = next((name for name in probabilities if name != place.class_name), "")
        probability = probabilities.get(place.class_name)
        shown = "" if probability is None else f"{probability:.4f}"
        unsure = "yes" if place.folder == UNSURE else ""
        yield place.image.path, place.class_name, shown, second, unsure, place.target or ""


def _print_end(words: str, left: Left) -> None:
    """Print what was done, and the files that were left alone."""
    for path, reason in left[:SHOWN]:
        stderr().print(f"left alone  {printable(f'{path}: {reason}')}", markup=False, soft_wrap=True)
    if len(left) > SHOWN:
        stderr().print(f"left alone  {len(left) - SHOWN:,} more")
    stdout().print(words, markup=False, soft_wrap=True)


@contextmanager
def _bar(word: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal. Yields a function to call with the number of images that are done."""
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = stderr()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield partial(bar.advance, bar.add_task(word, total=total))


@contextmanager
def _explained(advice: str) -> Iterator[None]:
    """End the command with one sentence after Ctrl-C or an error of the disk, whose log has what was done."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = f"{error.filename or 'The disk'}: {error.strerror or error}."
        give_up(f"{printable(reason)} {advice}", Exit.FAILED)
    except KeyboardInterrupt:
        give_up(f"Stopped. {advice}", Exit.DETACHED)
