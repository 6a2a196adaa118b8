"""A real Chromium: of the system, of Playwright, or unpacked from Debian packages, which needs no root."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import playwright
import psutil
from playwright.sync_api import Browser, BrowserType, Error, Page, Playwright

from core.settings import Settings

NODE = Path(playwright.__file__).parent / "driver" / "node"
"""Playwright's own Node, so that the tests need no other."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
PACKAGES = ("chromium-headless-shell", "fonts-inter")
PROGRAM = Path("usr/lib/chromium/chromium-headless-shell")
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>{folder}/usr/share/fonts</dir>
  <cachedir>{folder}/fonts-cache</cachedir>
  <alias binding="same"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""
ADVICE = (
    "The tests of the page need a real Chromium, and none was found. Run `playwright install --with-deps "
    "chromium-headless-shell`, or `sudo apt-get install chromium`, or set CLIPCITE_TEST_BROWSER to the path "
    "of one."
)


class BrowserMissing(Exception):
    """No browser is available. The message says what to install."""


@dataclass(frozen=True)
class _Found:
    program: Path
    environment: dict[str, str]
    """Variables beyond the environment of the tests."""


def launch_browser(playwright: Playwright, *arguments: str) -> Browser:
    """Start the first browser found, without a window.

    Raises:
        BrowserMissing: there is none, and the system's packages cannot be downloaded.
    """
    return playwright.chromium.launch(**_program(playwright.chromium), args=arguments)


@contextmanager
def killable(browser: Browser, profile: Path, url: str) -> Iterator[Page]:
    """Open a page in a browser of its own, with this profile. At the end all its processes are killed."""
    chromium = browser.browser_type
    opened = chromium.launch_persistent_context(profile, **_program(chromium), base_url=url)
    try:
        page = opened.pages[0]
        page.set_default_timeout(120_000)
        yield page
    finally:
        mine = [one for one in psutil.process_iter() if f"--user-data-dir={profile}" in _command(one)]
        for process in mine:
            process.kill()
        psutil.wait_procs(mine)
        with contextlib.suppress(Error):  # it is closed
            opened.close()


def _program(chromium: BrowserType) -> dict[str, Any]:
    """Return the options with which Playwright starts the first browser found."""
    found = _find_browser(chromium)
    return {"executable_path": str(found.program), "env": {**os.environ, **found.environment}}


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        command: list[str] = process.cmdline()
        return command
    return []


def _find_browser(chromium: BrowserType) -> _Found:
    """Return the first browser found. If there is none, unpack one into the cache folder, which takes a
    minute.

    Raises:
        BrowserMissing: there is none, and the system's packages cannot be downloaded.
    """
    if named := os.environ.get("CLIPCITE_TEST_BROWSER"):
        if shutil.which(named) is None:
            raise BrowserMissing(f"CLIPCITE_TEST_BROWSER is {named!r}, and there is no such program.")
        return _Found(Path(named), {})
    for name in NAMES:
        if on_path := shutil.which(name):
            return _Found(Path(on_path), {})
    own = Path(chromium.executable_path)
    for program in (own, *own.parents[2].glob("chromium*/chrome-*/*shell")):
        if program.is_file():
            return _Found(program, {})
    folder = Settings().cache / "browser"
    if not (folder / PROGRAM).is_file():
        _unpack(folder)
    return _unpacked(folder)


def _unpacked(folder: Path) -> _Found:
    libraries = [str(path.parent) for path in (folder / "usr/lib").glob("*/libopus.so.0")]
    libraries += [str(path) for path in (folder / "usr/lib").glob("*/pulseaudio")]
    return _Found(
        folder / PROGRAM,
        {"LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(folder / "fonts.conf")},
    )


def _unpack(folder: Path) -> None:
    """Unpack the browser and its missing dependencies below `folder`.

    Raises:
        BrowserMissing: the packages cannot be downloaded.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise BrowserMissing(ADVICE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".browser-") as temporary:
        packages, unpacked = Path(temporary) / "packages", Path(temporary) / "unpacked"
        packages.mkdir()
        # Simulating and downloading need no root.
        plan = _run(["apt-get", "--simulate", "--no-install-recommends", "install", *PACKAGES], packages)
        wanted = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
        _run(["apt-get", "download", *wanted], packages)
        for package in packages.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(unpacked)], packages)
        if not (unpacked / PROGRAM).is_file():
            raise BrowserMissing(f"The package {PACKAGES[0]} has no {PROGRAM}. {ADVICE}")
        (unpacked / "fonts.conf").write_text(FONTS.format(folder=folder))
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(line for line in done.stderr.splitlines() if line.startswith("E: "))[:500]
        raise BrowserMissing(f"`{' '.join(command[:3])} …` failed: {said or done.returncode}. {ADVICE}")
    return done.stdout
