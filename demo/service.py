"""The service of the demo: on a free port, with a temporary data folder."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clipcite import APIConnectionError, APIStatusError, Client, Retry

REPOSITORY = Path(__file__).resolve().parents[1]
# Only these settings reach the service of the demo, which must not touch the database, the storage and the
# keys of a service that is configured on this machine.
KEPT_SETTINGS = {
    "CLIPCITE_BACKBONE",
    "CLIPCITE_CACHE",
    "CLIPCITE_DEVICE",
    "CLIPCITE_MAX_IMAGES",
    "CLIPCITE_MAX_IMAGE_BYTES",
    "CLIPCITE_MAX_IMAGE_PIXELS",
    "CLIPCITE_MAX_REQUEST_BYTES",
}
STOP_SECONDS = 12
"""Maximum time to stop (seconds). `clipcite serve` gives its child processes 8 s."""
LOG_LINES = 15
POLL_SECONDS = 0.3


class DemoFailed(Exception):
    """The end of the demo: the reason, and advice on the remedy."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    key: str
    """API key, known to this process alone."""

    @property
    def exit_status(self) -> int | None:
        """Exit status; None while the service runs."""
        return self.process.poll()

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def wait_until_ready(self, *, seconds: float, backbone_seconds: float) -> None:
        """Wait until the service responds (`seconds`) and the backbone is loaded (`backbone_seconds`).

        Raises:
            DemoFailed: timeout, or the service exited.
        """
        started = time.monotonic()
        alive = False
        with Client(self.url, self.key, retry=Retry(attempts=1)) as client:
            while True:
                if self.exit_status is not None:
                    raise self._failed(f"The service exited with status {self.exit_status}.")
                reason = "There is no response."
                with suppress(APIConnectionError, APIStatusError):  # the API is starting
                    readiness = client.ready()
                    if readiness.ready:
                        return
                    alive = True
                    reason = readiness.parts["backbone"]["reason"] or "The backbone is still loading."
                    if readiness.preparing is None and readiness.parts["backbone"]["status"] != "ok":
                        raise DemoFailed(
                            f"The backbone cannot be used: {reason}",
                            "Unset CLIPCITE_BACKBONE to use the starter backbone, which needs no model hub.",
                        )
                waited = time.monotonic() - started
                if waited > (max(seconds, backbone_seconds) if alive else seconds):
                    raise self._failed(f"The service is not ready after {waited:.0f} s. {reason}")
                time.sleep(POLL_SECONDS)

    def _failed(self, reason: str) -> DemoFailed:
        return DemoFailed(reason, f"Last lines of the log:\n{self.log_tail()}")


@contextmanager
def running_service() -> Iterator[Service]:
    """Start `clipcite serve`, and stop it at the end. The data folder is deleted."""
    with tempfile.TemporaryDirectory(prefix="clipcite-demo-", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        log = Path(folder) / "service.log"
        key = secrets.token_urlsafe(32)
        command = [sys.executable, "-m", "demo.serve", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--data", str(Path(folder) / "data")]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**_environment(os.environ), "CLIPCITE_ADMIN_KEY": key},
                stdin=subprocess.PIPE,  # the service exits when this pipe closes
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo only, which then stops the service
            )
        try:
            yield Service(f"http://127.0.0.1:{port}", process, log, key)
        finally:
            _stop(process)


def _environment(ours: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    return {k: v for k, v in ours.items() if not k.startswith("CLIPCITE_") or k in KEPT_SETTINGS}


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # A second Ctrl-C must not interrupt the shutdown.
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its child processes exit with it
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
