"""The generated reference pages: equal to the code, and complete."""

import re
import subprocess
import sys

from core.settings import Settings
from docs.error_codes import all_codes
from docs.generate import INTERNAL, PAGES, PART, PARTS
from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
ERRORS = (REFERENCE / "errors.md").read_text(encoding="utf-8")
ASSERTED = re.compile(r'assert_problem\([^"]+?, (\d{3}), "([a-z_]+)"')


def test_the_pages_are_those_of_the_code() -> None:
    """`python -m docs.generate` writes them. It sees the classes of the service, without those of tests."""
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_is_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert sorted(part[1] for part in PART.findall(pages)) == sorted(PARTS)


def test_every_setting_is_described_once() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `CLIPCITE_([A-Z0-9_]+)` \|", page, re.MULTILINE)
    assert sorted(described) == sorted(name.upper() for name in Settings.model_fields.keys() - INTERNAL)


def test_every_code_has_a_message() -> None:
    codes = all_codes()
    for messages in (codes.responses, codes.images, codes.jobs, codes.warnings, codes.findings):
        assert len(messages) > 5
        assert [code for code, message in messages.items() if len(message) < 10] == []


def test_every_error_of_the_tests_is_listed() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    asserted = {(code, status) for status, code in ASSERTED.findall(tests)}
    listed = set(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", ERRORS, re.MULTILINE))
    assert len(asserted) > 40
    assert asserted - listed == set()
