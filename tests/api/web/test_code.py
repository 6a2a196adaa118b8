"""The programs of the page: complete, and the same answer in each language."""

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Locator, expect

from tests.api.web.browser import NODE
from tests.api.web.window import shot, window


def program(box: Locator, language: str) -> str:
    box.get_by_role("tab", name=language, exact=True).click()
    text = box.get_by_label(language, exact=True)
    expect(text).to_be_visible()
    return text.inner_text()


def run(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_python_and_javascript_print_the_same_predictions(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    (tmp_path / "image.jpg").write_bytes(shot("red", 1, size=90))
    with window(browser, quick_url) as page:
        page.goto("/#/models")
        box = page.locator(".model").first.locator(".code")
        box.get_by_text("Use in code").click()
        texts = {language: program(box, language) for language in ("Python", "JavaScript", "curl")}
    (tmp_path / "a.py").write_text(texts["Python"])
    (tmp_path / "a.mjs").write_text(texts["JavaScript"])
    python = run([sys.executable, "a.py"], tmp_path)
    javascript = run([str(NODE), "a.mjs"], tmp_path)
    assert len(python) == 3
    pairs = [(line.split()[0], round(float(line.split()[1]), 5)) for line in javascript]
    assert pairs == [(line.split()[0], round(float(line.split()[1]), 5)) for line in python]
    assert "-F images=@image.jpg" in texts["curl"]
