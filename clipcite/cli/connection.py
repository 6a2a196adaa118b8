"""Options, output and exit statuses of the commands that talk to a service."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from clipcite.client.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    InvalidAddress,
    InvalidImages,
    PermissionDeniedError,
)
from clipcite.client.retry import Retry

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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

IN_COMMANDS = (
    (
        r"There is no model (.+)\. GET /models lists your models\.",
        r"No model named \1. Run `clipcite models list`.",
    ),
    (r"There is no job (.+)\. GET /jobs lists your jobs\.", r"No job \1. Run `clipcite jobs list`."),
    (r"GET /models/(.+)/aliases lists its aliases\.", r"Run `clipcite models aliases \1`."),
    (
        r"Send its images to POST /adapt\?dry_run=true to get one\.",
        "Run `clipcite adapt --dry-run` with its images.",
    ),
    (r"Send all images to POST /adapt\.", "Run `clipcite adapt` with all images."),
    (r"send on_bad_image=skip", "use --on-bad-image skip"),
)
"""Advice of the service about routes and fields, and the same advice about commands."""

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
            try:
                yield client
            except APIConnectionError as error:
                give_up(unreachable(error, client.base_url), Exit.UNREACHABLE)
    except (AuthenticationError, PermissionDeniedError) as error:
        give_up(f"{error}\nPass a key with --key or CLIPCITE_API_KEY.", Exit.NO_ACCESS)
    except APIStatusError as error:
        give_up(in_commands(str(error)), Exit.REFUSED)
    except (InvalidAddress, InvalidImages) as error:
        give_up(str(error), Exit.USAGE)
    except ClipCiteError as error:
        give_up(str(error), Exit.REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.DETACHED) from None
    except BrokenPipeError:  # closed by `| head`, for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


def unreachable(error: APIConnectionError, url: str) -> str:
    """Return the message for a service that does not respond."""
    import httpx

    from clipcite.client.address import untrusted_certificate

    if reason := untrusted_certificate(error):
        return (
            f"The certificate of {url} is not trusted ({reason}). Set SSL_CERT_FILE to a file with the "
            "certificate of its authority."
        )
    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
        return f"Can't reach clipcite at {url}. Start it with `clipcite serve`, or set --url."
    return str(error)


def in_commands(text: str) -> str:
    """Return a message of the service with commands and options instead of routes and fields."""
    for pattern, replacement in IN_COMMANDS:
        text = re.sub(pattern, replacement, text)
    return text


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
