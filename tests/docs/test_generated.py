"""The generated reference pages: equal to the code, and complete."""

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.mark.slow
def test_the_pages_are_those_of_the_code() -> None:
    """`python -m docs.generate` writes them, in a process without the classes of tests."""
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
