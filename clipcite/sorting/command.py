"""`clipcite sort`: put the images of a folder into a folder per class."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from clipcite.cli.references import JOB, find_model
from clipcite.cli.render.tables import print_table
from clipcite.cli.render.verdict import measured_words
from clipcite.datasets.dataset import count_noun
from clipcite.datasets.image import printable
from clipcite.sorting import folder_pile
from clipcite.sorting.files import Left, carry_out, tidy, undo
from clipcite.sorting.folder_pile import Files
from clipcite.sorting.log import How, Log, locked, logs_of, open_log
from clipcite.sorting.output import place_of, plan_csv, plan_table
from clipcite.sorting.plan import FoundImage, Place, find_images, plan, without_sorted
from clipcite.sorting.teaching import ask_person, train_again
from clipcite.types.tables import as_csv

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.client._sync.models import Model
    from clipcite.client._sync.piles import Pile
    from clipcite.types.piles import PileSort

DONE = {"copy": "copied", "move": "moved", "link": "linked"}
MAX_LABELS = 1_000
"""Images of a round: `MAX_ASKED` of a request to the service."""
WAYS = (
    "Say how to sort: by a model (--model NAME, see `clipcite models list`), by names (--classes a,b,c), or "
    "on the page (`clipcite open`): then give this command again, which finds your labels."
)
SHOWN = 10
"""Files with a reason that are listed."""


@dataclass(frozen=True)
class SortOptions:
    """What a person asked for."""

    folder: Path
    into: Path
    how: How
    model: str | None
    names: Mapping[str, list[str] | None] | None
    unsure: float
    something_else: bool
    label: int
    check: int
    csv_file: Path | None
    yes: bool
    as_json: bool


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
    no_something_else: Annotated[
        bool,
        typer.Option(
            "--no-something-else", help="Sort every image into a class, even if it belongs to none."
        ),
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
            help="Ask for the classes of images drawn at random until there are N, such as 20, and say how "
            "good the sort is.",
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

    Images that belong to none of the classes go to the folder something else. Labels are kept in a pile on
    the service, which its page shows, too: sort there, and move the files here. Shows the plan, and asks
    before it copies, moves or links. Nothing is overwritten. After an interruption, it continues.
    """
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
    folder = folder.resolve()
    if into is None and not folder.name:
        raise typer.BadParameter(f"is needed: {folder} has no name.", param_hint="--into")
    options = SortOptions(
        folder,
        into.resolve() if into else folder.with_name(f"{folder.name}-sorted"),
        "move" if move else "link" if link else "copy",
        model,
        None if classes is None else class_names(classes),
        unsure if unsure <= 1 else unsure / 100,
        not no_something_else,
        label or 0,
        check_count or 0,
        csv_file,
        yes,
        as_json,
    )
    advice = "The same command continues."
    with connected(url, key) as client, _explained(advice), locked(folder, options.into):
        closed: list[Path] = []
        found = find_images(folder, options.into, closed)
        for path in closed:
            note = f"{path} can't be read. Change its permissions."
            stderr().print(printable(note), markup=False, soft_wrap=True)
        if found:
            pile, used, files = _open_pile(client, options, found)
            log, images = _open_log(options, pile.id, found)
            with _bar("uploading") as on_progress:
                folder_pile.add(pile, files, on_progress)
            result = None
            if pile.counts.images:
                result = _taught(client, pile, used, files, options)
            else:  # no image can be read
                pile.delete()
            answers = files.answers(result)
            names = [] if result is None else [each.name for each in result.class_names]
            places = plan(images, answers, names, options.into, options.unsure, options.how)
        else:  # a sort has moved all of them
            log, result, places = _last_log(options), None, []
        if not _carry_out(log, places, result, options) or closed:
            raise typer.Exit(Exit.FAILED)


def _open_pile(
    client: Client, options: SortOptions, images: Sequence[FoundImage]
) -> tuple[Pile, Model | None, Files]:
    """Find or make the pile of a folder. Return it with its trained model, if it has one, and the files."""
    with _counting_bar("reading", len(images)) as on_done:
        files = folder_pile.read_files(images, options.folder, on_done)
    model, names = options.model, options.names
    if names is not None and model is None:
        model = "stock"
    used: Model | None = None
    if model is not None and not is_stock(model):
        used = client.models.get(find_model(client, model))
        model = used.id
    wanted = names if names is not None else used.trained_classes if used is not None else None
    earlier = [str(log.subject.get("pile")) for log in logs_of(options.into, options.folder)]
    keeps_images = bool(options.label or options.check)
    pile = folder_pile.find_pile(
        client, files.known, earlier, model=model, names=wanted, keeps_images=keeps_images
    )
    if pile is not None:
        note = f"Continues the pile {pile.name}: {count_noun(pile.counts.images, 'image')}, "
        stderr().print(printable(f"{note}{pile.counts.labelled:,} labelled."), markup=False, soft_wrap=True)
        if names is not None or (used is not None and pile.model != used.id):
            pile.update(model=model, class_names=names)
        elif model is not None and pile.model != model:  # a pre-trained one, for the names of the pile
            pile.update(model=model)
        if used is None and not is_stock(pile.model) and not pile.model.startswith(JOB):
            used = client.models.get(pile.model)
        return pile, used, files
    if wanted is None:
        if not sys.stdin.isatty():
            give_up(WAYS, Exit.USAGE)
        model, names = _chosen(client)
        used = None if is_stock(model) else client.models.get(model)
    pile = client.piles.create(
        name=options.folder.name,
        model=used.id if used else model or "stock",
        class_names=names,
        keeps_images=keeps_images,
    )
    return pile, used, files


def _taught(client: Client, pile: Pile, used: Model | None, files: Files, options: SortOptions) -> PileSort:
    """Ask a person what was wanted, train again if the person agrees, and return the sort."""
    if not (options.label or options.check):
        return _sorted(pile, files, options)
    paths = {image.position: image.file for image in pile.images()} | files.paths
    labelled = options.label
    while labelled:
        labelled = _ask_rounds(pile, files, paths, options)
        if used is None or not labelled or not pile.keeps_images:
            break
        if not options.yes and not typer.confirm("Train again with these labels?", err=True):
            break
        used = train_again(client, used, pile)
    if used is None and options.label and pile.counts.labelled > pile.counts.none:
        train = f"clipcite adapt --pile {pile.id} --name NAME"
        stderr().print(f"To train a model with these labels: {train}", markup=False, soft_wrap=True)
    missing = options.check - pile.counts.drawn
    if missing > 0:
        stderr().print("Check: these images are drawn at random. Skipped ones are not counted.")
        ask_person(pile, _sorted(pile, files, options, draw=missing), paths)
    return _sorted(pile, files, options)


def _ask_rounds(pile: Pile, files: Files, paths: Mapping[int, str], options: SortOptions) -> int:
    """Ask for images again and again, until a person has no more labels. Return their number."""
    labelled, said = 0, None
    while True:
        result = _sorted(pile, files, options, ask=options.label)
        if result.reason not in (None, said):
            said = result.reason
            stderr().print(str(said), markup=False, soft_wrap=True)
        stderr().print(measured_words(result), markup=False, soft_wrap=True)
        number, stopped = ask_person(pile, result, paths)
        labelled += number
        if stopped or not number:
            return labelled


def _sorted(pile: Pile, files: Files, options: SortOptions, *, ask: int = 0, draw: int = 0) -> PileSort:
    with _bar("sorting") as on_progress:
        return folder_pile.sort(
            pile, files, on_progress, something_else=options.something_else, ask=ask, draw=draw
        )


def _carry_out(log: Log, places: Sequence[Place], result: PileSort | None, options: SortOptions) -> bool:
    """Show the plan, ask, and put the images into their places. Return whether all of it was done."""
    how, into = options.how, options.into
    unreadable = [(str(place.image.path), place.answer.error or "") for place in places if not place.target]
    if not options.as_json:
        print_table(stdout(), plan_table(places, into))
        if result is not None:
            stdout().print(measured_words(result), markup=False, soft_wrap=True)
        _list("unreadable", unreadable)
    if options.csv_file is not None:
        write_file(options.csv_file, as_csv(plan_csv(places, options.folder)))
    _note_earlier(log, places, into)
    waiting = [place for place in places if place.target and not place.done]
    left: Left = []
    agreed = options.yes or not waiting or _agreed(how, len(waiting), into)
    if agreed:
        with _counting_bar(DONE[how], len(waiting)) as on_done:
            left = carry_out(log, waiting, how, on_done)
    if options.as_json:
        measured = None if result is None else result.measured
        print_json(
            {
                "pile": log.subject.get("pile"),
                "into": str(into),
                "done": agreed,
                "images": list(map(place_of, places)),
                "measured": None if measured is None else measured.model_dump(mode="json"),
                "left_alone": [{"file": path, "reason": reason} for path, reason in left],
                "log": str(log.path),
            }
        )
    elif agreed:
        _print_end(f"{DONE[how].capitalize()} {count_noun(len(waiting) - len(left), 'image')}.", left)
        stdout().print(f"undo  {_undoing(log)}", markup=False, soft_wrap=True)
    return agreed and not left and not unreadable


def _note_earlier(log: Log, places: Sequence[Place], into: Path) -> None:
    """Say that an earlier run of this sort has put copies or links elsewhere than the plan."""
    planned = {place.image.path: place.target for place in places}
    root = Path(log.subject["folder"])
    number = sum(
        action.how != "move"
        and planned.get(root / action.source) not in (None, into / action.target)
        and os.path.lexists(into / action.target)
        for action in dict.fromkeys(log.actions)
    )
    if number:
        note = f"An earlier run put {count_noun(number, 'image')} elsewhere. To undo it first:"
        stderr().print(f"{note} {_undoing(log)}", markup=False, soft_wrap=True)


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
        with _counting_bar("undoing", actions) as on_done:
            left = undo(log, on_done)
        exceptions = f", except for {count_noun(len(left), 'image')}" if left else ""
        _print_end(f"Undone{exceptions}.", left)
        _count_damaged(log)
        if left or log.damaged:
            raise typer.Exit(Exit.FAILED)


def _open_log(
    options: SortOptions, pile_id: str, images: Sequence[FoundImage]
) -> tuple[Log, list[FoundImage]]:
    """Open the log of this sort. Return it with the images to sort."""
    log, others = open_log(options.into, {"folder": str(options.folder), "pile": pile_id})
    tidy(log)
    _count_damaged(log)
    for other in others:
        if any(os.path.lexists(options.into / action.target) for action in other.actions):
            note = f"{options.into} has images of another sort. To undo that one first:"
            stderr().print(f"{printable(note)} {_undoing(other)}", markup=False, soft_wrap=True)
    return log, without_sorted(images, log, others)


def _last_log(options: SortOptions) -> Log:
    """Return the log of the sort that has moved all images of the folder."""
    logs = logs_of(options.into, options.folder)
    if not logs:
        raise typer.BadParameter(
            f"has no images: {options.folder}. Give a folder with JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or "
            "HEIC files.",
            param_hint="FOLDER",
        )
    tidy(logs[-1])
    _count_damaged(logs[-1])
    return logs[-1]


def _undoing(log: Log) -> str:
    return printable(f"clipcite sort --undo {shlex.quote(str(log.path))}")


def _count_damaged(log: Log) -> None:
    if log.damaged:
        note = f"Skipped {count_noun(log.damaged, 'damaged record')} of {log.path}."
        stderr().print(printable(note), markup=False, soft_wrap=True)


def _chosen(client: Client) -> tuple[str, Mapping[str, list[str] | None] | None]:
    """Ask a person for a model or class names. Return the model, and the names if they were typed."""
    models = list(client.models.list())
    names = {model.name or model.id: ", ".join(model.trained_classes) for model in reversed(models)}
    if names:
        shown = "; ".join(f"{name} ({classes})" for name, classes in names.items())
        stderr().print(printable(f"Your models: {shown}"), markup=False, soft_wrap=True)
    page = client.base_url.rstrip("/")
    note = (
        f"To group the images first and name the groups, choose Sort on {page}. Then give this command again."
    )
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
def _bar(word: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal. Yields a function to call with the number of done and of all images."""
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = stderr()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(word, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _counting_bar(word: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal. Yields a function to call with the number of further images."""
    with _bar(word) as on_progress:
        done = 0

        def on_done(number: int) -> None:
            nonlocal done
            done += number
            on_progress(done, total)

        yield on_done


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
