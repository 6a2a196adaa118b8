"""Tracing that is off, and that lacks its packages. tests/service/test_traces.py tests the spans."""

import os
import subprocess
import sys
import textwrap

from core import tracing


def run(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def test_traces_are_off_without_an_endpoint() -> None:
    script = """
        import sys
        from core.tracing import *
        start_tracing("here")
        with span("attempt"):
            assert current() is None
        flush()
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """
    done = run(script, **dict.fromkeys(tracing.ENDPOINTS, ""))
    assert done.returncode == 0, done.stderr


def test_missing_packages_are_named() -> None:
    script = """
        import sys
        sys.modules["opentelemetry"] = None
        from core.tracing import start_tracing
        start_tracing("here")
    """
    done = run(script, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "pip install '.[tracing]'" in done.stderr
