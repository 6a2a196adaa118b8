"""Options, output and exit statuses of the commands that talk to a service."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from clipcite.client.retry import Retry
from clipcite.datasets.image import IMAGE_ENDINGS, printable
from clipcite.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    InvalidAddress,
    InvalidImages,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="CLIPCITE_URL", help="Address of the service (default: http://127.0.0.1:8000)."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="CLIPCITE_API_KEY", show_envvar=True, help="API key, if the service requires one."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Alpha = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Strength: 0 pre-trained model, 1 fully trained (default: the model's)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SHORT_RETRY = Retry(attempts=3)
"""Reports a missing service within two seconds. Waiting for a job tolerates a longer outage."""


class Exit(IntEnum):
    """Exit status of a command."""

    OK = 0
    FAILED = 1  # the job failed or was cancelled; doctor found a problem
    USAGE = 2  # invalid options, or images that cannot be uploaded
    UNREACHABLE = 3
    NO_ACCESS = 4
    REFUSED = 5  # the service returned an error
    DETACHED = 130  # Ctrl-C


def stdout() -> Console:
    """Return the console for results. Colours on a terminal only; honours NO_COLOR."""
    return Console(highlight=False)


def stderr() -> Console:
    """Return the console for messages."""
    return Console(stderr=True, highlight=False)


@contextmanager
def connected(url: str | None, key: str | None) -> Iterator[Client]:
    """Yield a client. An error inside is printed and ends the command with its exit status."""
    from clipcite.client._sync.client import Client  # here, so that `--help` does not wait for it

    try:
        with Client(url, key, retry=SHORT_RETRY) as client:
            yield client
    except APIConnectionError as error:
        give_up(str(error), Exit.UNREACHABLE)
    except (AuthenticationError, PermissionDeniedError) as error:
        give_up(f"{error.text('commands')}\nPass a key with --key or CLIPCITE_API_KEY.", Exit.NO_ACCESS)
    except APIStatusError as error:
        give_up(error.text("commands"), Exit.REFUSED)
    except (InvalidAddress, InvalidImages) as error:
        give_up(str(error), Exit.USAGE)
    except ClipCiteError as error:
        give_up(str(error), Exit.REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.DETACHED) from None
    except BrokenPipeError:  # closed by `| head`, for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask before a deletion, on a terminal only: a script has nobody to answer."""
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise typer.Exit(Exit.FAILED)


def not_an_image(path: Path | None) -> Path | None:
    """Refuse to overwrite an image: with `--csv *.jpg`, the shell gives the first photo to the option."""
    if path is not None and path.suffix.lower() in IMAGE_ENDINGS and path.exists():
        shown = printable(str(path))
        raise typer.BadParameter(f"{shown} is an image, which would be overwritten. Give another name.")
    return path


def write_file(path: Path, text: str) -> None:
    """Write a file, or end the command with the reason. An old file stays until the new one is complete."""
    data = text.encode("utf-8", "backslashreplace")
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        if place.exists() and not place.is_file():  # a pipe, for example
            path.write_bytes(data)
        else:
            part.write_bytes(data)
            part.replace(place)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        give_up(f"{path} cannot be written: {error.strerror or error}. Choose another path.", Exit.USAGE)
    stderr().print(f"Saved {path.absolute().as_uri()}", markup=False, soft_wrap=True)


def give_up(message: str, status: Exit) -> NoReturn:
    """Print an error and end the command."""
    stderr().print(message, markup=False, style="red", soft_wrap=True)
    raise typer.Exit(status)


def print_deleted(name: str, text: str = "deleted.", *, as_json: bool) -> None:
    """Confirm a deletion."""
    if as_json:
        print_json({"id": name, "deleted": True})
    else:
        stdout().print(f"{name} {text}", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON, with escapes where the encoding of the output lacks a character."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text)
