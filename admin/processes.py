"""Processes of the server, started by module name."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from clipcite.cli.operator import server_path

API, WORKER, DISPATCHER = "api", "worker", "worker.dispatcher"
MIGRATE, STARTUP = "core.store.db.migrate", "admin.startup"


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment(data: Path | None = None, **settings: object) -> dict[str, str]:
    """Return the environment of this process with `settings` as CLIPCITE_ variables. None is left out.

    PYTHONSAFEPATH prevents the import of modules such as `api` or `worker` from the working directory.
    """
    options = {"data": None if data is None else data.absolute(), **settings}
    ours = {f"CLIPCITE_{name.upper()}": str(value) for name, value in options.items() if value is not None}
    path = os.pathsep.join(filter(None, [str(server_path()), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **ours}


def defaults(module: str) -> dict[str, str]:
    """Return variables of a process. Its libraries read them when they are loaded.

    A trainer inherits those of its worker. It must not inherit MALLOC_* variables, because they would disable
    its own settings.
    """
    if sys.platform != "linux":
        return {"OMP_WAIT_POLICY": "passive"}
    # OpenMP threads wait for each other after every step. Waking a thread takes longer than most steps, so
    # waiting threads spin for about ten microseconds. By default they spin for milliseconds, and a thread of
    # any process that needs the core meanwhile has to wait. PyTorch's GNU OpenMP needs both variables.
    # benchmarks/pages/training-speed.md has the measurements.
    waiting = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000"}
    if module != API:
        return waiting
    # glibc defaults to eight arenas per processor, and each retains memory that its threads freed.
    return {**waiting, "MALLOC_ARENA_MAX": str(max(2, os.cpu_count() or 1))}


def with_defaults(module: str, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process. Variables that are already set take precedence."""
    return {**defaults(module), **environment}


def become(module: str, environment: dict[str, str]) -> NoReturn:
    """Replace this process (exec), so that `module` gets its signals and sets its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command(module), with_defaults(module, environment))
