"""The embedded service of the demo: on a free port, with fresh data, gone at the end."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from clipcite import APIConnectionError, APIStatusError, Client, Retry
from demo.failure import DemoFailed

REPOSITORY = Path(__file__).resolve().parents[1]
# The demo must not touch a service that is set up here: its database, its storage, its keys. Only
# these settings reach the service of the demo.
KEPT_SETTINGS = {
    "CLIPCITE_BACKBONE",
    "CLIPCITE_BACKBONE_FOLDER",
    "CLIPCITE_CACHE",
    "CLIPCITE_DEVICE",
    "CLIPCITE_MAX_IMAGES",
    "CLIPCITE_MAX_IMAGE_BYTES",
    "CLIPCITE_MAX_IMAGE_PIXELS",
    "CLIPCITE_MAX_REQUEST_BYTES",
}
STOP_SECONDS = 12
"""`clipcite serve` gives its own children 8 seconds."""
LOG_LINES = 15
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Service:
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def wait_until_ready(self, *, seconds: float, backbone_seconds: float) -> None:
        """Until it answers (`seconds`) and its backbone is loaded (`backbone_seconds`). Raises DemoFailed."""
        started = time.monotonic()
        alive = False
        with Client(self.url, retry=Retry(attempts=1)) as client:
            while True:
                if self.exit_status is not None:
                    raise self._failed(f"The service ended with status {self.exit_status}.")
                reason = "It does not answer."
                try:
                    alive = client.ready().ready
                    if alive:
                        return
                except APIConnectionError:
                    pass
                except APIStatusError:
                    alive = True
                    reason = _backbone_problem(client) or "It is still loading."
                waited = time.monotonic() - started
                if waited > (max(seconds, backbone_seconds) if alive else seconds):
                    raise self._failed(f"The service is not ready after {waited:.0f} s. {reason}")
                time.sleep(POLL_SECONDS)

    def _failed(self, what: str) -> DemoFailed:
        return DemoFailed(what, f"The end of its log:\n{self.last_words()}")


def _backbone_problem(client: Client) -> str | None:
    """What is wrong with the backbone beyond that it is still loading: a request needs it, so its answer
    says. Raises DemoFailed where waiting is of no use."""
    data = BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    try:
        client.classify([data.getvalue()], ["a", "b"])
    except APIConnectionError:
        return None
    except APIStatusError as error:
        if error.code == "model_loading":
            return None
        if error.status < 500 or error.code == "backbone_unavailable":
            raise DemoFailed(
                f"The backbone can't be used: {error}",
                "Without CLIPCITE_BACKBONE the demo takes the starter: no model hub.",
            ) from error
        return error.detail
    return None


@contextmanager
def running_service() -> Iterator[Service]:
    """Start `clipcite serve`; it may take a while until it answers. Nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="clipcite-demo-", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        log = Path(folder) / "service.log"
        command = [sys.executable, "-m", "demo.leashed_serve", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--data", str(Path(folder) / "data")]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=_environment(os.environ),
                stdin=subprocess.PIPE,  # the leash
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo only, which then stops it in order
            )
        try:
            yield Service(f"http://127.0.0.1:{port}", process, log)
        finally:
            _stop(process)


def _environment(ours: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    return {k: v for k, v in ours.items() if not k.startswith("CLIPCITE_") or k in KEPT_SETTINGS}


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # A second Ctrl-C must not leave half of it running.
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its children hang on a leash
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
