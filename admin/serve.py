"""`clipcite serve`: run the whole service as child processes."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from admin.processes import API, DISPATCHER, MIGRATE, STARTUP, WORKER, command, environment, with_defaults
from clipcite.client.address import local_token
from core.parent_watch import CHILD
from core.removed_settings import removed_settings_warning

POLL_SECONDS = 0.2
STOP_SECONDS = 8
"""Maximum time for all children to stop (seconds), after which they are killed."""
ANY_ADDRESS = {"0.0.0.0", "::"}
PROCESSES = {"api": API, "worker": WORKER, "dispatcher": DISPATCHER}
BACKLOG = 2048
"""Maximum number of connections that wait to be accepted, as in uvicorn."""


@dataclass
class Child:
    """A child process, restarted when it dies."""

    name: str
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(
        cls, name: str, module: str, settings: dict[str, str], listener: socket.socket | None = None
    ) -> "Child":
        """Start a module, which inherits the listening socket if there is one."""
        fds = [] if listener is None else [listener.fileno()]
        process = subprocess.Popen(
            command(module, *(f"--fd={fd}" for fd in fds)),
            pass_fds=fds,
            env=with_defaults(module, settings),
            stdin=subprocess.PIPE,  # the child exits when this pipe closes, however this process ends
            start_new_session=True,  # Ctrl-C reaches this process only, which stops the children in order
        )
        return cls(name, process)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


def serve_until_stopped(
    host: str,
    port: int,
    data: Path | None,
    options: Mapping[str, str | None],
    *,
    open_page: bool,
    verbose: bool,
) -> int:
    """Run until SIGINT or SIGTERM and return the exit status.

    Args:
        options: further settings by name; None sets nothing.
        open_page: open the web page in a browser.
        verbose: print the log of all processes, not only warnings and errors.
    """
    console = Console(stderr=True)
    try:
        listener = _listen(host, port)
    except OSError as error:
        console.print(
            f"[red]Cannot listen on {host}, port {port}:[/] {error.strerror}. Choose another --port."
        )
        return 1
    port = listener.getsockname()[1]
    log_level = None if verbose or "CLIPCITE_LOG_LEVEL" in os.environ else "warning"
    settings = environment(data, host=host, port=port, log_level=log_level, **options)
    settings[CHILD] = "1"
    if log_level is not None:
        settings = {"PYTHONWARNINGS": "ignore", **settings}  # warnings of libraries, such as torch's tracer
    for module in (MIGRATE, STARTUP):
        checked = subprocess.run(command(module), env=settings, check=False)
        if checked.returncode:
            return checked.returncode

    if warning := removed_settings_warning(os.environ):
        console.print(f"[yellow]{warning}[/]")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    ready = threading.Event()
    listeners = {"api": listener}
    children = [
        Child.start(name, module, settings, listeners.get(name)) for name, module in PROCESSES.items()
    ]
    token = local_token(None if data is None else data.absolute())
    hint = None
    if token is not None and token != local_token():
        hint = f"In other terminals: export CLIPCITE_DATA={shlex.quote(settings['CLIPCITE_DATA'])}"
    announcement = (console, host, port, token, hint, stop, ready, open_page)
    threading.Thread(target=_announce, args=announcement, daemon=True).start()
    status = 0
    while not stop.wait(POLL_SECONDS):
        for index, child in enumerate(children):
            if child.alive:
                continue
            code = child.process.returncode
            if child.name == "api" and not ready.is_set():
                # The API failed to start and has printed the reason.
                status = code or 1
                stop.set()
                break
            console.print(f"[yellow]{child.name} exited with status {code}. Restarting.[/]")
            stop.wait(1)
            module = PROCESSES[child.name]
            children[index] = Child.start(child.name, module, settings, listeners.get(child.name))
    console.print("Stopping …")
    listener.close()
    _stop(children)
    return status


def _stop(children: list[Child]) -> None:
    for child in children:
        if child.alive:
            child.process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.process.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _announce(
    console: Console,
    host: str,
    port: int,
    token: str | None,
    hint: str | None,
    stop: threading.Event,
    ready: threading.Event,
    open_page: bool,
) -> None:
    """Print the progress of a download, and the address once the service is ready.

    The fragment of the address has the token, since browsers send fragments to no server. The page is opened
    earlier, once the API responds.
    """
    shown = "127.0.0.1" if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    link = url if token is None else f"{url}/#token={token}"
    step: str | None = None
    while not stop.wait(0.3):
        with contextlib.suppress(httpx.HTTPError, ValueError):
            response = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
            if open_page:
                open_page = False
                webbrowser.open(link)
            if response.is_success:
                ready.set()
                console.print(f"[green]Ready:[/] {link}", highlight=False, soft_wrap=True)
                if hint is not None:
                    console.print(hint, highlight=False, soft_wrap=True)
                console.print("Press Ctrl-C to stop.", highlight=False)
                return
            before, step = step, preparing_line(response.json().get("preparing"))
            if step is not None and step != before:
                console.print(step, highlight=False, soft_wrap=True)


def preparing_line(preparing: Mapping[str, Any] | None) -> str | None:
    """Return a line about the field `preparing` of GET /readyz, except for loading, which takes seconds.

    The line changes with every tenth of a download.
    """
    if preparing is None or preparing["what"].startswith("Loading"):
        return None
    done, total = preparing.get("done_bytes"), preparing.get("total_bytes")
    if not total:
        return f"{preparing['what']} …"
    tenths = 10 * (done or 0) // total
    return f"{preparing['what']}: {10 * tenths}% of {total / 1e6:,.0f} MB"


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free port.

    This process keeps the socket open, so that connections wait while the API starts or restarts.

    Raises:
        OSError: the address cannot be bound.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
