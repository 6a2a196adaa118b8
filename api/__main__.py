"""Entry point of the HTTP service: `python -m api [--fd NUMBER]`, with the number of a listening socket."""

import argparse
import gc
import os
import resource
import socket
import sys

from api.starting_page import StartingPage, listen
from core.log import start_logging
from core.parent_watch import exit_with_parent
from core.settings import get_settings
from core.tracing import start_tracing

MAX_FILES = 65_536


def allow_many_files() -> None:
    """Raise the soft limit on open files to at most MAX_FILES.

    An uploaded image above 64 kB is an open file until the response. The usual limit of 1,024 would make an
    upload of 1,000 photos fail.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    fd = parser.parse_args().fd
    settings = get_settings()
    start_logging(settings)
    allow_many_files()
    start_tracing("clipcite-api")
    try:
        listener = listen(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)
    except OSError as error:
        sys.exit(
            f"Cannot listen on {settings.host}, port {settings.port}: {error.strerror}. Use another port."
        )
    starting_page = StartingPage(listener)

    # These imports take seconds, during which the page above answers.
    import uvicorn

    from api.app import create_app
    from api.startup import startup_error
    from api.uvicorn_server import DRAIN_SECONDS, Server, WatchedProtocol, max_connections, watch_readers
    from core.clip.errors import InvalidConfig

    try:
        app = create_app(settings)
    except InvalidConfig as error:  # a precision that the device does not have
        sys.exit(f"CLIPCITE_SERVING_PRECISION can't be {settings.serving_precision}: {error}")
    # Imported modules live for ever. A full garbage collection that scans them would stall every thread.
    gc.freeze()
    problem = app.state.database.startup_error() or startup_error(settings)
    if problem is not None:
        sys.exit(problem)
    if settings.exit_with_parent:
        exit_with_parent(grace_seconds=8)
    config = uvicorn.Config(
        app,
        http=WatchedProtocol,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", ""),
        timeout_graceful_shutdown=DRAIN_SECONDS,
        log_config=None,
        server_header=False,
    )
    WatchedProtocol.max_connections = max_connections()
    watch_readers(listener)
    starting_page.stop()
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
