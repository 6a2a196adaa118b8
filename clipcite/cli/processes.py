"""The server's processes, started by the names of their modules: nothing of the server is imported here."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

API, WORKER, DISPATCHER = "api", "worker", "worker.dispatcher"
KEYTOOL, MIGRATE, DOCTOR = "core.store.admin", "core.store.db.migrate", "core.doctor"
LIVENESS = "core.liveness"
GARBAGE = "worker.dispatcher.garbage"


def server_missing() -> str | None:
    """How to install the server where only the client is; None where it is there."""
    if all(importlib.util.find_spec(package) for package in ("fastapi", "celery", "sqlalchemy", "torch")):
        return None
    return "pip install '.[server,starter]' in a checkout of clipcite"


def need_server() -> None:
    """Ends the command where the server is not installed, with what to do."""
    missing = server_missing()
    if missing is not None:
        typer.echo(f"This needs the server, and only the client is installed here: {missing}", err=True)
        raise typer.Exit(2)


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def server_path() -> Path:
    """The folder of `api`, `core` and `worker`: inside the installed package, or the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_server"
    return installed if installed.is_dir() else package.parent


def environment(data: Path | None = None, **settings: object) -> dict[str, str]:
    """This process's, with the settings that are not None.

    Modules come from where they are installed, not from the folder that the user stands in: it may have
    an `api` or a `worker` of its own.
    """
    given = {"data": None if data is None else data.absolute(), **settings}
    ours = {f"CLIPCITE_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    path = os.pathsep.join(filter(None, [str(server_path()), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **ours}


def api_defaults() -> dict[str, str]:
    """Variables for the API's process alone, read when its libraries are loaded.

    A trainer must not inherit any MALLOC_*: it would give up its own.
    """
    if sys.platform != "linux":
        return {"OMP_WAIT_POLICY": "passive"}
    return {
        # Threads that compute together wait for each other after every step. They spin for some ten
        # microseconds, since to be woken takes longer than most steps. The usual milliseconds would keep the
        # cores from threads that decode and answer. GNU's OpenMP, which PyTorch brings, needs both variables.
        "OMP_WAIT_POLICY": "active",
        "GOMP_SPINCOUNT": "1000",
        # By default there are eight heaps per processor, each of which keeps memory that its threads freed.
        "MALLOC_ARENA_MAX": str(max(2, os.cpu_count() or 1)),
    }


def with_defaults(module: str, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process; a variable that is set stays as it is."""
    return {**api_defaults(), **environment} if module == API else environment


def become(module: str, environment: dict[str, str]) -> NoReturn:
    """This process is that one from now on: signals reach it and its exit status is the answer."""
    need_server()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command(module), with_defaults(module, environment))


def ask(module: str, arguments: list[str], data: Path | None) -> Any:
    """What the server's side, which knows the database, answers; it says itself what went wrong."""
    need_server()
    done = subprocess.run(
        command(module, *arguments), env=environment(data), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    return json.loads(done.stdout)
