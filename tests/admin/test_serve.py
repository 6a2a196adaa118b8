"""`clipcite serve`: its few lines of output, and the checks before it starts any process."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from core.store.accounts import local_token
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub
from tests.service.running import PATIENCE, running_module, wait_for


@contextmanager
def serving(
    folder: Path, environment: Mapping[str, str], *options: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Run the service on a free port, 30 columns wide. Yields the process and the file of its output."""
    output, data_and_port = folder / "output", ("--data", str(folder / "data"), "--port", "0")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "clipcite", "serve", *data_and_port, *options],
            env={**os.environ, **environment, "COLUMNS": "30"},
            stdout=file,
            stderr=file,
        )
    try:
        yield process, output
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


def ready(process: "subprocess.Popen[bytes]", output: Path) -> list[str]:
    wait_for(
        lambda: "Ctrl-C" in output.read_text(),
        unless=lambda: process.poll() is not None,
        explain=output.read_text,
    )
    return output.read_text().splitlines()


@pytest.mark.slow
def test_the_lines_of_a_start(tmp_path: Path, environment: dict[str, str]) -> None:
    with serving(tmp_path, environment, "--device", "cpu") as (process, output):
        lines = ready(process, output)
        assert lines[0].startswith("Starting at http://127.0.0.1:")
        assert lines[2:] == ["Press Ctrl-C to stop."]
        url = lines[1].removeprefix("Ready: ")
        assert httpx.get(f"{url}/readyz", timeout=600).status_code == 200
        api = running_module(process.pid, "api")
        assert api.environ()["CLIPCITE_DEVICE"] == "cpu"


@pytest.mark.slow
def test_the_link_with_the_token(tmp_path: Path, environment: dict[str, str]) -> None:
    """The link is printed and opened. The command line finds the token in CLIPCITE_DATA."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    settings = {**environment, "BROWSER": str(browser), "CLIPCITE_REQUIRE_TOKEN": "true"}
    with serving(tmp_path, settings, "--open") as (process, output):
        lines = ready(process, output)
        token = (tmp_path / "data" / "token").read_text().strip()
        url, _, fragment = lines[1].removeprefix("Ready: ").partition("/#token=")
        assert fragment == token
        assert lines[2] == f"In other terminals: export CLIPCITE_DATA={tmp_path / 'data'}"
        assert lines[3:] == ["Press Ctrl-C to stop."]
        wait_for(lambda: opened.exists() and opened.read_text() == f"{url}/#token={token}\n")
        assert httpx.get(f"{url}/jobs", timeout=600).status_code == 401
        assert (
            httpx.get(f"{url}/jobs", headers={"Authorization": f"Bearer {token}"}, timeout=600).status_code
            == 200
        )
        for data, status in ((tmp_path / "data", 0), (tmp_path, 4)):
            done = subprocess.run(
                [sys.executable, "-m", "clipcite", "jobs", "list", "--url", url],
                env={**os.environ, "CLIPCITE_DATA": str(data)},
                check=False,
            )
            assert done.returncode == status
        # The door stays shut while the service restarts, and the token is the same.
        assert local_token.ensure(tmp_path / "data") == token


@pytest.mark.slow
def test_a_second_service_on_the_folder_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    """It names the first one, which goes on. Its end releases the folder, even a violent one."""
    command = [sys.executable, "-m", "clipcite", "serve", "--port", "0", "--data", tmp_path / "data"]
    with serving(tmp_path, environment) as (process, output):
        url = ready(process, output)[1].removeprefix("Ready: ")
        known = (tmp_path / "data" / "serve.lock").read_text()
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 1
        assert f"already runs with the data folder {tmp_path / 'data'}, at {url}. Use" in second.stderr
        assert httpx.get(f"{url}/readyz", timeout=600).status_code == 200
        assert (tmp_path / "data" / "serve.lock").read_text() == known == url
        process.kill()
    with serving(tmp_path, environment) as (process, output):
        assert ready(process, output)[1].startswith("Ready: ")
    assert (tmp_path / "data" / "serve.lock").read_text() == ""


@pytest.mark.slow
def test_no_token_is_the_open_mode(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = {**environment, "CLIPCITE_REQUIRE_TOKEN": "true"}
    with serving(tmp_path, settings, "--no-token") as (process, output):
        url = ready(process, output)[1].removeprefix("Ready: ")
        assert "#" not in url
        assert not (tmp_path / "data" / "token").exists()
        assert httpx.get(f"{url}/jobs", timeout=600).status_code == 200
        assert (
            httpx.get(f"{url}/jobs", headers={"X-Forwarded-For": "203.0.113.5"}, timeout=600).status_code
            == 403
        )


@pytest.mark.slow
def test_the_first_start_prepares_the_starter(tmp_path: Path) -> None:
    settings = {"CLIPCITE_CACHE": str(tmp_path / "cache")}
    for first in (True, False):
        with serving(tmp_path, settings) as (process, output):
            lines = ready(process, output)
        text = " ".join(lines)
        expected = "within a minute" if first else r"in about \d+ s"
        assert re.search(rf"^Starting at \S+ \(ready {expected}\) …$", lines[0])
        assert ("Preparing the starter model (first start only) …" in text) == first
        assert "Ready: http://127.0.0.1:" in text
        assert len(lines) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("wait", [False, True])
def test_a_new_backbone_comes_later_or_first(
    hub: Hub, tmp_path: Path, cache_with_starter: Path, wait: bool
) -> None:
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    hub.delay_seconds = 0.0 if wait else 2.0  # a download of minutes, beside the first answer
    options = ["--backbone", "hf-hub:tests/tiny", *["--wait-for-backbone"] * wait]
    with serving(tmp_path, {"CLIPCITE_CACHE": str(cache_with_starter)}, *options) as (process, output):
        text = " ".join(ready(process, output))
        url = re.findall(r"http://[^/\s]+", text)[0]
        first = httpx.get(f"{url}/readyz", timeout=600).json()["backbone"]
        assert first == ("hf-hub:tests/tiny" if wait else "starter")
        assert ("Until then, starter is used." in text) != wait
        hub.delay_seconds = 0.0
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=600).json()["backbone"] == "hf-hub:tests/tiny")


Mistake = tuple[list[str], dict[str, str], str]
MISTAKES: dict[str, Mistake] = {
    "no rights": (["--data", "/proc/x"], {}, "/proc/x/serve.lock can't be used: "),
    "taken port": (["--port", "{port}"], {}, "Address already in use. Choose another --port."),
    "unknown value": ([], {"CLIPCITE_LOG_LEVEL": "loud"}, "CLIPCITE_LOG_LEVEL: Input should be 'info' or"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_start_with_one_sentence(mistake: str, tmp_path: Path) -> None:
    options, more, sentence = MISTAKES[mistake]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = [option.format(port=port) for option in options]
        if "--port" not in options:
            options += ["--port", "0"]
        if "--data" not in options:
            options += ["--data", str(tmp_path / "data")]
        done = subprocess.run(
            [sys.executable, "-m", "clipcite", "serve", *options],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    assert "WARNING" not in done.stderr
    assert done.stdout == ""
