"""`python -m api`: the HTTP service."""

import sys
from types import FrameType

import uvicorn

from api.app import create_app
from api.auth import refusal_to_listen
from core.leash import end_with_parent
from core.log import start_logging
from core.settings import get_settings

DRAIN_SECONDS = 5


class Server(uvicorn.Server):
    """Tells the application at once that it is to stop, so that long polls end before their time."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping.set()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def main() -> None:
    start_logging()
    settings = get_settings()
    refusal = refusal_to_listen(settings)
    if refusal is not None:
        sys.exit(refusal)
    if settings.leashed:
        end_with_parent(grace_seconds=8)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        log_config=None,
        server_header=False,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
