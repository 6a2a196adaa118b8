"""The installation that a command works on, and the output of its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy import make_url

from admin.doctor import problems_of
from clipcite.datasets.image import printable
from core.errors import ExpectedError
from core.scratch import DISK_FULL
from core.settings import Settings, read_settings
from core.store.db.session import Database

Data = Annotated[Path | None, typer.Option(help="Data folder of `clipcite serve` (default: CLIPCITE_DATA).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Print an expected error, and end the command with status 1."""
    try:
        yield
    except ExpectedError as error:
        typer.echo(printable(error.detail), err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        place = printable(str(error.filename or "A disk"))
        typer.echo(f"{place}: {error.strerror}. Free some space, and give the command again.", err=True)
        raise typer.Exit(1) from None


def settings_of(data: Path | None = None) -> Settings:
    """Return the settings, with the data folder `data` if given. Invalid settings end the command."""
    try:
        settings = read_settings()
    except ValidationError as error:
        typer.echo("\n".join(problems_of(error)), err=True)
        raise typer.Exit(1) from None
    return settings if data is None else settings.model_copy(update={"data": data.absolute()})


@contextmanager
def database_of(settings: Settings, *, check: bool = True) -> Iterator[Database]:
    """Yield the database. With `check`, it must exist, and this version must be able to use its tables."""
    if check and (folder := missing_in(settings)):
        typer.echo(
            f"No installation in {printable(str(folder))}; give the --data of the service, or set "
            "CLIPCITE_DATA.",
            err=True,
        )
        raise typer.Exit(1)
    with errors_in_words():
        database = Database(settings.sqlalchemy_url())
        try:
            if check:
                database.check()
            yield database
        finally:
            database.close()


def missing_in(settings: Settings) -> Path | None:
    """Return the folder that lacks the database file; None if it is there, or a server has the database."""
    url = make_url(settings.sqlalchemy_url())
    if url.get_backend_name() != "sqlite":
        return None
    path = Path(url.database or "")
    return None if path.exists() else path.parent


def shown_time(at: datetime | None) -> str:
    """Return a time from the database in UTC, to the minute, or an empty text for None."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
