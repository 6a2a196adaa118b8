"""Entry point of the HTTP service: `python -m api`."""

import gc
import resource
import sys

import uvicorn

from api.app import create_app
from api.middleware.auth import startup_error
from api.uvicorn_server import DRAIN_SECONDS, HeaderTimeoutProtocol, Server
from core.log import start_logging
from core.parent_watch import exit_with_parent
from core.settings import get_settings

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
    settings = get_settings()
    start_logging(settings)
    allow_many_files()
    app = create_app(settings)
    # Imported modules live for ever. A full garbage collection that scans them would stall every thread.
    gc.freeze()
    error = app.state.database.startup_error() or startup_error(settings)
    if error is not None:
        sys.exit(error)
    if settings.exit_with_parent:
        exit_with_parent(grace_seconds=8)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=HeaderTimeoutProtocol,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        log_config=None,
        server_header=False,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
