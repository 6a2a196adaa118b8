"""`clipcite sort`: put the images of a folder into a folder per class."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clipcite.cli.classify import Classes, class_names, is_stock
from clipcite.cli.connection import (
    AsJson,
    Exit,
    Key,
    Url,
    Yes,
    confirm,
    connected,
    give_up,
    not_an_image,
    print_json,
    stderr,
    stdout,
    write_file,
)
from clipcite.cli.references import find_model
from clipcite.cli.render.tables import print_table
from clipcite.datasets.dataset import count_noun
from clipcite.datasets.image import printable
from clipcite.sorting.check import check
from clipcite.sorting.files import Left, carry_out, tidy, undo
from clipcite.sorting.log import How, Log, locked, open_log
from clipcite.sorting.output import place_of, plan_csv, plan_table
from clipcite.sorting.plan import Image, find_images, plan, without_sorted
from clipcite.sorting.teaching import rounds, train_again
from clipcite.types.tables import as_csv

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.client.classification import ClassNames

DONE = {"copy": "copied", "move": "moved", "link": "linked"}
MAX_LABELS = 1_000
"""Labels of a round: `MAX_SUGGESTED` of a request to the service."""
WAYS = (
    "Say how to sort: by a model (--model NAME, see `clipcite models list`), by names (--classes a,b,c), or "
    "by groups on the page (`clipcite open`)."
)
SHOWN = 10
"""Files with a reason that are listed."""


def sort(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Folder of images, also in folders below.", file_okay=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model: id, name, name@version, name@alias, or stock (default with --classes).",
        ),
    ] = None,
    classes: Classes = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder of the class folders (default: FOLDER-sorted).", file_okay=False),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images (default).")] = False,
    move: Annotated[bool, typer.Option("--move", help="Move the images.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links, which need no space.")] = False,
    unsure: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Images below this probability go to the folder unsure; above 1 it is a percentage.",
        ),
    ] = 0.6,
    no_reject: Annotated[
        bool,
        typer.Option("--no-reject", help="Sort every image into a class, even if it belongs to none."),
    ] = False,
    label: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_LABELS,
            help="First ask for the classes of this many images. They count at once; a model can be trained "
            "again with them.",
        ),
    ] = None,
    check_count: Annotated[
        int | None,
        typer.Option(
            "--check",
            metavar="N",
            min=1,
            max=MAX_LABELS,
            help="Ask for the classes of N images drawn at random, such as 20, and say how good the sort is. "
            "They train no model.",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write the plan to a CSV file.",
            dir_okay=False,
            callback=not_an_image,
        ),
    ] = None,
    undo_log: Annotated[
        Path | None,
        typer.Option("--undo", metavar="LOG", help="Undo the sort of this log.", exists=True, dir_okay=False),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Sort images into a folder per class.

    With a trained model, images that belong to none of its classes go to the folder something else. Shows the
    plan and asks before it copies, moves or links. Nothing is overwritten. After an interruption, the same
    command continues.
    """
    from clipcite.sorting.asking import ask  # loads pydantic, which help does not need

    if undo_log is not None:
        with _explained("Give the same command again."):
            _undo(undo_log, yes=yes)
        return
    if folder is None or not folder.is_dir():
        raise typer.BadParameter("must be a folder of images.", param_hint="FOLDER")
    if copy + move + link > 1:
        raise typer.BadParameter(
            "exclude each other. Give one of them.", param_hint="--copy, --move and --link"
        )
    names: ClassNames | None = None if classes is None else class_names(classes)
    nothing = names is None and (model is None or is_stock(model))
    if nothing and not sys.stdin.isatty():
        give_up(WAYS, Exit.USAGE)
    how: How = "move" if move else "link" if link else "copy"
    folder = folder.resolve()
    if into is None and not folder.name:
        raise typer.BadParameter(f"is needed: {folder} has no name.", param_hint="--into")
    into = into.resolve() if into else folder.with_name(f"{folder.name}-sorted")
    advice = "The same command continues."
    with connected(url, key) as client, _explained(advice), locked(folder, into):
        closed: list[Path] = []
        found = find_images(folder, into, closed)
        for path in closed:
            note = f"{path} can't be read. Change its permissions."
            stderr().print(printable(note), markup=False, soft_wrap=True)
        if not found and not any(into.glob("clipcite-sort-*.jsonl")):  # unless a sort has moved all of them
            raise typer.BadParameter(
                f"has no images: {folder}. Give a folder with JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or "
                "HEIC files.",
                param_hint="FOLDER",
            )
        if nothing:
            model, names = _chosen(client)
        used = None if model is None or is_stock(model) else client.models.get(find_model(client, model))
        # The default one may become another one, whose features differ.
        backbone = {} if used or (model or "stock") != "stock" else {"backbone": client.ready().backbone}
        while True:
            given = names or dict.fromkeys(used.trained_classes if used else ())
            subject = {
                "folder": str(folder),
                "model": used.id if used else model or "stock",
                "classes": given,
                **backbone,
            }
            log, images = _open(into, subject, found)
            with _bar("asking", len(images)) as on_done:
                ask(client, log, images, names, on_done)
            taught = rounds(client, log, images, names, label or 0, used)
            if used is None or not any(log.labels[image.key] for image in taught):
                break
            if not yes and not typer.confirm("Train again with these corrections?", err=True):
                break
            used = train_again(client, used)
        checked = check(log, images, check_count, reject=not no_reject) if check_count else None
        places = plan(images, log, into, unsure if unsure <= 1 else unsure / 100, how, reject=not no_reject)
        if not as_json:
            print_table(stdout(), plan_table(places, into))
            if checked:
                stdout().print(checked.words(), markup=False, soft_wrap=True)
            _list(
                "unreadable",
                [
                    (str(place.image.path), place.answer.error or "")
                    for place in places
                    if place.target is None
                ],
            )
        if csv_file is not None:
            write_file(csv_file, as_csv(plan_csv(places, folder)))
        waiting = [place for place in places if place.target and not place.done]
        left: Left = []
        agreed = yes or not waiting or _agreed(how, len(waiting), into)
        if agreed:
            with _bar(DONE[how], len(waiting)) as on_done:
                left = carry_out(log, waiting, how, on_done)
        if as_json:
            print_json(
                {
                    "into": str(into),
                    "done": agreed,
                    "images": list(map(place_of, places)),
                    "check": checked and {**asdict(checked), "interval": checked.interval()},
                    "left_alone": [{"file": path, "reason": reason} for path, reason in left],
                    "log": str(log.path),
                }
            )
        elif agreed:
            _print_end(f"{DONE[how].capitalize()} {count_noun(len(waiting) - len(left), 'image')}.", left)
            stdout().print(f"undo  {_undoing(log)}", markup=False, soft_wrap=True)
        if not agreed or left or closed or any(place.target is None for place in places):
            raise typer.Exit(Exit.FAILED)


def _agreed(how: How, count: int, into: Path) -> bool:
    """Ask a person whether to go on. Nobody answers for a script."""
    try:
        return typer.confirm(
            printable(f"{how.capitalize()} {count_noun(count, 'image')} into {into}?"), err=True
        )
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        return False


def _undo(path: Path, *, yes: bool) -> None:
    folder = Path(Log(path).subject.get("folder", ""))
    if not folder.is_absolute():
        raise typer.BadParameter(
            f"{printable(str(path))} is not a log of `clipcite sort`. Give the file "
            "clipcite-sort-….jsonl in the sorted folder.",
            param_hint="--undo",
        )
    with locked(folder, path.parent):
        log = Log(path)
        actions = len(set(log.actions))
        confirm(printable(f"Undo the sort of {count_noun(actions, 'image')} of {folder}?"), yes=yes)
        with _bar("undoing", actions) as on_done:
            left = undo(log, on_done)
        exceptions = f", except for {count_noun(len(left), 'image')}" if left else ""
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


def _chosen(client: Client) -> tuple[str, ClassNames | None]:
    """Ask a person for a model or class names. Return the model, and the names if they were typed."""
    models = list(client.models.list())
    names = {model.name or model.id: ", ".join(model.trained_classes) for model in reversed(models)}
    if names:
        shown = "; ".join(f"{name} ({classes})" for name, classes in names.items())
        stderr().print(printable(f"Your models: {shown}"), markup=False, soft_wrap=True)
    page = client.base_url.rstrip("/")
    note = f"To group the images first and name the groups, open {page} and choose Sort."
    stderr().print(note, markup=False, soft_wrap=True)
    ask = "A model, or class names separated by commas" if names else "Class names, separated by commas"
    typed: str = typer.prompt(ask, err=True).strip()
    if typed in names or (names and "," not in typed):
        return find_model(client, typed), None
    return "stock", class_names([typed])


def _print_end(words: str, left: Left) -> None:
    """Print what was done, and the files that were left alone."""
    _list("left alone", left)
    stdout().print(words, markup=False, soft_wrap=True)


def _list(word: str, files: Left) -> None:
    """Print the first files, each with its reason."""
    for path, reason in files[:SHOWN]:
        stderr().print(f"{word}  {printable(f'{path}: {reason}')}", markup=False, soft_wrap=True)
    if len(files) > SHOWN:
        stderr().print(f"{word}  {len(files) - SHOWN:,} more")


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
    except (KeyboardInterrupt, typer.Abort):  # at a question, also the end of the input
        give_up(f"\nStopped. {advice}", Exit.DETACHED)
