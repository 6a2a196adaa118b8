"""The size of the project. Ceilings may only fall: lower them when a folder gets smaller."""

import subprocess
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from core.settings import Settings

ROOT = Path(__file__).parents[2]
GENERATED = "clipcite/client/_sync/"

CEILINGS = {
    "admin": 1_198,
    "api": 5_514,
    "core": 18_306,
    "worker": 2_260,
    "clipcite": 5_624,
    "tests": 37_766,
    "benchmarks": 11_473,
    "api/classify/collection.py": 91,
    "api/compat": 250,
    "api/corrections": 252,
    "benchmarks/sorting.py": 144,
    "clipcite/bridges": 312,
    "clipcite/cli/evaluate.py": 63,
    "clipcite/client/_async/classifier.py": 159,
    "clipcite/sorting": 823,
    "clipcite/wire/feedback.py": 55,
    "core/clip/export/formats": 421,
    "core/clip/inference/self_training.py": 50,
    "core/clip/inference/which_next.py": 36,
    "core/serving/collection.py": 96,
    "core/store/jobs/corrections.py": 121,
    "tests/api/classify/test_collection.py": 195,
    "tests/api/compat": 232,
    "tests/api/web/sort": 258,
    "tests/clipcite/client/test_sort.py": 80,
    "tests/api/corrections": 396,
    "tests/clipcite/sorting": 559,
    "tests/core/clip/inference/test_self_training.py": 59,
    "tests/core/clip/inference/test_which_next.py": 41,
    "tests/neighbours": 645,
}
"""Maximum number of lines of Python per folder or module, without the generated client and other entries."""
NEIGHBOURS = ("api/compat/", "clipcite/bridges/", "core/clip/export/formats/")
"""Folders with a module per other program, of at most 150 lines, which can be deleted alone."""

MAX_SETTINGS = 35

MAX_MODULE_LINES = 300

MAX_FOLDER_FILES = 12
LARGE_FOLDERS = {"clipcite/wire": 13, "migrations/versions": 13}
"""Folders with more than `MAX_FOLDER_FILES` modules: one per resource, and one per change of the tables."""


def _tracked(*suffixes: str) -> list[str]:
    """Return the paths of the project's files, the generated client excepted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [
        path
        for path in listed
        if path.endswith(suffixes) and not path.startswith(GENERATED) and (ROOT / path).is_file()
    ]


def _start(entry: str) -> str:
    return entry if entry.endswith(".py") else f"{entry}/"


def _lines(path: str) -> int:
    return (ROOT / path).read_bytes().count(b"\n")


@pytest.mark.parametrize("folder", CEILINGS)
def test_a_folder_stays_below_its_ceiling(folder: str) -> None:
    inner = tuple(_start(other) for other in CEILINGS if other.startswith(f"{folder}/"))
    modules = [path for path in _tracked(".py") if path.startswith(_start(folder))]
    lines = sum(_lines(path) for path in modules if not path.startswith(inner))
    assert 0 < lines <= CEILINGS[folder]


def test_modules_are_short() -> None:
    product = ("admin/", "api/", "benchmarks/", "clipcite/", "core/", "demo/", "worker/")
    modules = [path for path in _tracked(".py", ".js") if path.startswith(product)]
    assert modules
    long = {path: lines for path in modules if (lines := _lines(path)) > MAX_MODULE_LINES}
    assert not long
    assert all(_lines(path) <= 150 for path in modules if path.startswith(NEIGHBOURS))


def test_folders_are_small() -> None:
    modules = [path for path in _tracked(".py", ".js") if not PurePosixPath(path).name.startswith("__")]
    counts = Counter(
        str(PurePosixPath(path).parent) for path in modules if PurePosixPath(path).name != "conftest.py"
    )
    large = {path for path, n in counts.items() if n > LARGE_FOLDERS.get(path, MAX_FOLDER_FILES)} - {"."}
    assert not large


def test_there_are_few_settings() -> None:
    assert len(Settings.model_fields) <= MAX_SETTINGS
