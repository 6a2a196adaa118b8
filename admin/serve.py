"""`clipcite serve`: run the whole service as child processes."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import httpx
from rich.console import Console
from rich.markup import escape

from admin import valkey
from admin.installation import settings_of
from admin.processes import API, STARTUP, WORKER, command, environment, with_defaults
from api.uvicorn_server import listen
from clipcite.client.address import local_token
from core.errors import ExpectedError
from core.parent_watch import CHILD

POLL_SECONDS = 0.2
ALONE_SECONDS = 60
"""Maximum time that the API loads alone before the worker starts (seconds)."""
START_FILE = "start_seconds"
"""File in the data folder with the seconds until the service was last ready."""
STOP_SECONDS = 8
"""Time after which children that have not stopped are killed (seconds)."""
ANY_ADDRESS = {"0.0.0.0", "::"}
PROCESSES = {"api": (API,), "worker": (WORKER, "--dispatch")}
VALKEY = "valkey"


def serve_until_stopped(
    host: str,
    port: int,
    data: Path | None,
    options: Mapping[str, str | None],
    *,
    later: bool,
    open_page: bool,
    verbose: bool,
) -> int:
    """Run until SIGINT or SIGTERM and return the exit status.

    Args:
        options: further settings by name. None is left out.
        later: classify with the current backbone while a new one is downloaded.
        open_page: open the web page in a browser.
        verbose: print the log of all processes, not only warnings and errors.
    """
    console = Console(stderr=True)
    lock = _lock(settings_of(data).data)
    if isinstance(lock, str):
        console.print(lock, style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    try:
        listener = listen(host, port)
    except OSError as error:
        console.print(
            f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another --port.",
            style="red",
            soft_wrap=True,
        )
        return 1
    port = listener.getsockname()[1]
    shown = "127.0.0.1" if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    lock.write(address)
    lock.flush()
    started, folder = time.monotonic(), settings_of(data).data
    console.print(f"Starting at {address} ({expected_start(folder)}) …", highlight=False, soft_wrap=True)
    log_level = None if verbose or "CLIPCITE_LOG_LEVEL" in os.environ else "warning"
    settings = environment(data, host=host, port=port, log_level=log_level, **options)
    settings[CHILD] = "1"
    if log_level is not None:
        settings = {"PYTHONWARNINGS": "ignore", **settings}  # hide warnings of libraries
    startup = command(STARTUP, *(["later"] if later else []))
    checked = subprocess.run(startup, env=settings, capture_output=True, text=True, check=False)
    if checked.returncode:
        lock.truncate(0)
        console.print(checked.stderr.rstrip(), style="red", markup=False, highlight=False, soft_wrap=True)
        return checked.returncode
    if checked.stdout:  # name of the backbone to download
        del settings["CLIPCITE_BACKBONE"]

    stop, ready, loaded = threading.Event(), threading.Event(), threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())

    socket = settings_of(data).valkey_socket()

    def start(name: str) -> "subprocess.Popen[bytes]":
        if name == VALKEY:
            return valkey.start(socket)
        fds = [listener.fileno()] if name == "api" else []
        return subprocess.Popen(
            command(*PROCESSES[name], *(f"--fd={fd}" for fd in fds)),
            pass_fds=fds,
            env=with_defaults(PROCESSES[name][0], settings),
            stdin=subprocess.PIPE,  # the child exits when this pipe closes, even after `kill -9`
            start_new_session=True,  # Ctrl-C must reach only this process, which stops the children in order
        )

    children: dict[str, subprocess.Popen[bytes]] = {}
    if settings_of(data).redis_url is None:
        try:
            children[VALKEY] = valkey.start_first(socket)
        except ExpectedError as error:
            lock.truncate(0)
            console.print(error.detail, style="red", markup=False, highlight=False, soft_wrap=True)
            return 1
    # API and worker import the same libraries. Side by side both would take twice as long on two cores.
    children["api"] = start("api")
    token = local_token(None if data is None else data.absolute())
    # The token is in the URL's fragment, because browsers never send fragments to a server.
    lines = [f"[green]Ready:[/] {address}{'' if token is None else f'/#token={token}'}"]
    if token is not None and token != local_token():
        export = escape(shlex.quote(settings["CLIPCITE_DATA"]))
        lines.append(f"In other terminals: export CLIPCITE_DATA={export}")

    def on_ready() -> None:
        ready.set()
        loaded.set()
        note_start(folder, time.monotonic() - started)

    announcement = (console, address, token, lines, stop, on_ready, loaded.set, open_page)
    threading.Thread(target=_announce, args=announcement, daemon=True).start()
    status = 0
    while not stop.wait(POLL_SECONDS):
        if "worker" not in children and (loaded.is_set() or time.monotonic() - started > ALONE_SECONDS):
            children["worker"] = start("worker")
        for name, child in children.items():
            code = child.poll()
            if code is None:
                continue
            if name == "api" and not ready.is_set():
                # The API failed to start and has printed the reason.
                status = code or 1
                stop.set()
                break
            console.print(f"[yellow]{name} exited with status {code}. Restarting.[/]")
            stop.wait(1)
            children[name] = start(name)
    console.print("Stopping …")
    listener.close()
    broker = [children.pop(VALKEY)] if VALKEY in children else []
    _stop([*children.values()])
    _stop(broker)
    with contextlib.suppress(OSError):  # the disk may have become read-only
        socket.unlink(missing_ok=True)
        lock.truncate(0)
    return status


def _lock(folder: Path) -> TextIO | str:
    """Lock a data folder. Return the open lock file, or why the service must not start.

    A second, newer service could change the tables while the first one uses them. The system releases the
    lock when this process ends. The file has the address, for a second service and for commands.
    """
    path = folder / "serve.lock"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = path.open("a+", encoding="ascii")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return (
            f"`clipcite serve` already runs with the data folder {folder}, at {path.read_text()}. Use that "
            "service, or stop it first. A second service needs another --data."
        )
    except OSError as error:
        return f"{path} can't be used: {error.strerror}. Use another --data."
    lock.truncate(0)
    return lock


def expected_start(folder: Path) -> str:
    """Return in words when the service with this data folder will be ready."""
    try:
        seconds = float((folder / START_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return "ready within a minute"  # a first start also assembles the starter
    return f"ready in about {max(1, round(seconds))} s"


def note_start(folder: Path, seconds: float) -> None:
    """Keep how long the start took, for the next one."""
    with contextlib.suppress(OSError):
        (folder / START_FILE).write_text(f"{seconds:.1f}", encoding="ascii")


def _stop(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in children:
        child.terminate()
    until = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _announce(
    console: Console,
    address: str,
    token: str | None,
    lines: list[str],
    stop: threading.Event,
    on_ready: Callable[[], None],
    on_loaded: Callable[[], None],
    open_page: bool,
) -> None:
    """Print the progress of a download, and `lines` once the service is ready.

    The page is opened as soon as the API responds. `on_loaded` is called when the API computes nothing.
    """
    step: str | None = None
    while not stop.wait(0.3):
        with contextlib.suppress(httpx.HTTPError, ValueError):
            response = httpx.get(f"{address}/readyz", timeout=5, trust_env=False)
            if open_page:
                open_page = False
                webbrowser.open(lines[0].partition("[/] ")[2])
            if response.is_success:
                on_ready()
                for line in lines:
                    console.print(line, highlight=False, soft_wrap=True)
                for line in (*_advice(address, token), "Press Ctrl-C to stop."):
                    console.print(line, highlight=False, soft_wrap=True)
                return
            preparing = response.json().get("preparing")
            if preparing is None or preparing.get("total_bytes"):
                on_loaded()  # an error or a download, which may take long
            before, step = step, preparing_line(preparing)
            if step is not None and step != before:
                console.print(step, highlight=False, soft_wrap=True)


def _advice(address: str, token: str | None) -> list[str]:
    """Return a line about the backbone being downloaded, or about one that suits this machine."""
    with contextlib.suppress(httpx.HTTPError, ValueError):
        headers = {"Authorization": f"Bearer {token}"}
        listed = httpx.get(f"{address}/backbones", headers=headers, timeout=30, trust_env=False).json()
        rows = listed.get("data", ())
        if coming := next((row["name"] for row in rows if row["state"] in {"downloading", "checking"}), None):
            present = next(row["name"] for row in rows if row["default"])
            return [f"Downloading {coming}: the page shows the progress. Until then, {present} is used."]
        best = next((row for row in rows if row["recommended"]), None)
        if best is not None and not listed["fixed"] and not best["default"]:
            size = f"{best['bytes'] / 1e6:,.0f} MB"
            return [f"Base model: starter. For this machine: clipcite backbones use {best['name']} ({size})."]
    return []


def preparing_line(preparing: Mapping[str, Any] | None) -> str | None:
    """Return a line about the field `preparing` of GET /readyz, or None for loading, which takes seconds.

    The line changes with every tenth of a download.
    """
    if preparing is None or preparing["what"].startswith("Loading"):
        return None
    done, total = preparing.get("done_bytes"), preparing.get("total_bytes")
    if not total:
        return f"{preparing['what']} …"
    tenths = 10 * (done or 0) // total
    return f"{preparing['what']}: {10 * tenths}% of {total / 1e6:,.0f} MB"
