"""What every command that talks to a service has in common: where it is, what comes out, how it ends."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from clipcite.client._sync.client import Client
from clipcite.client.address import InvalidAddress
from clipcite.client.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    InvalidImages,
    PermissionDeniedError,
)
from clipcite.client.retry import Retry

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="CLIPCITE_URL", help="Where the service is. [default: http://127.0.0.1:8000]"
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="CLIPCITE_API_KEY", show_envvar=True, help="API key, where there are keys."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


SOON = Retry(attempts=3)
"""Whoever has forgotten to start the service is told within two seconds; waiting for a job bears more."""


class Exit(IntEnum):
    """How a command ends, for scripts."""

    OK = 0
    FAILED = 1  # the job failed or was cancelled; doctor found something
    USAGE = 2  # wrong options, or images that can't be uploaded
    UNREACHABLE = 3
    NO_ACCESS = 4
    REFUSED = 5  # the service answered with an error
    DETACHED = 130  # Ctrl-C


def out() -> Console:
    """For results. Colours and bars on a terminal only; NO_COLOR is honoured."""
    return Console(highlight=False)


def note() -> Console:
    """For what is said beside the result, on standard error."""
    return Console(stderr=True, highlight=False)


@contextmanager
def connected(url: str | None, key: str | None) -> Iterator[Client]:
    """A client; what goes wrong inside is said in words, and ends the command with its status."""
    try:
        with Client(url, key, retry=SOON) as client:
            yield client
    except APIConnectionError as error:
        give_up(str(error), Exit.UNREACHABLE)
    except (AuthenticationError, PermissionDeniedError) as error:
        give_up(f"{error}\nA key is given with --key or CLIPCITE_API_KEY.", Exit.NO_ACCESS)
    except APIStatusError as error:
        give_up(str(error), Exit.REFUSED)
    except (InvalidAddress, InvalidImages) as error:
        give_up(str(error), Exit.USAGE)
    except ClipCiteError as error:
        give_up(str(error), Exit.REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.DETACHED) from None
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


def give_up(said: str, status: Exit) -> NoReturn:
    note().print(said, markup=False, style="red", soft_wrap=True)
    raise typer.Exit(status)


def say_gone(what: str, more: str = "is gone.", *, as_json: bool) -> None:
    if as_json:
        print_json({"id": what, "deleted": True})
    else:
        out().print(f"{what} {more}", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))
