"""Entry point of the HTTP service: `python -m api [--fd NUMBER]`, with the number of a listening socket."""

import argparse
import gc
import logging
import os
import resource
import socket
import sys

import uvicorn
from fastapi import FastAPI

from api.starting import DRAIN_SECONDS, Server, StartFailed, StartingApp
from api.startup import startup_error
from api.uvicorn_server import WatchedProtocol, listen, max_connections, watch_readers
from core.log import start_logging
from core.parent_watch import exit_with_parent, is_child
from core.settings import Settings, get_settings
from core.store.db.session import Database

MAX_FILES = 65_536


def allow_many_files() -> None:
    """Raise the soft limit on open files to at most MAX_FILES.

    Each uploaded image above 16 kB is an open file until the response. With the usual limit of 1,024, an
    upload of 1,000 photos would fail.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def load_service(settings: Settings) -> FastAPI:
    """Return the service. Its imports take seconds.

    Raises:
        StartFailed: the service must not start with these settings.
    """
    database = Database(settings.sqlalchemy_url())
    problem = database.startup_error() or startup_error(settings)
    database.close()
    if problem is not None:
        raise StartFailed(problem)

    from api.app import create_app
    from core.clip.errors import InvalidConfig

    try:
        service = create_app(settings)
    except InvalidConfig as error:  # the device lacks this precision
        name = f"CLIPCITE_SERVING_PRECISION can't be {settings.serving_precision}"
        raise StartFailed(f"{name}: {error}") from error
    # Imported modules live for ever. A full garbage collection that scans them would stall every thread.
    gc.freeze()
    return service


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    fd = parser.parse_args().fd
    settings = get_settings()
    start_logging(settings)
    allow_many_files()
    try:
        listener = listen(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)
    except OSError as error:
        sys.exit(
            f"Cannot listen on {settings.host}, port {settings.port}: {error.strerror}. Use another port."
        )
    if is_child():
        exit_with_parent(grace_seconds=8)
    # uvicorn warns about every malformed request, and anybody can send those.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno != logging.WARNING)
    app = StartingApp(settings, lambda: load_service(settings))
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
    Server(config, app).run(sockets=[listener])


if __name__ == "__main__":
    main()
