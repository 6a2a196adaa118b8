"""constraints.txt: a version for every package in pyproject.toml, independent of the machine."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
REQUIREMENTS = sorted(
    {*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)}
)


def pins() -> dict[str, list[Requirement]]:
    """Return each package's entries; markers make several entries exclusive."""
    found = defaultdict(list)
    for line in LINES:
        if not line.startswith("#"):
            found[canonicalize_name(Requirement(line).name)].append(Requirement(line))
    return found


@pytest.mark.parametrize("requirement", [Requirement(line) for line in REQUIREMENTS], ids=lambda r: r.name)
def test_every_requirement_has_a_version_in_its_range(requirement: Requirement) -> None:
    entries = pins()[canonicalize_name(requirement.name)]
    assert entries, "Run: make lock"
    for entry in entries:
        (pin,) = entry.specifier
        assert requirement.specifier.contains(pin.version), f"{entry} is out of range. Run: make lock"


def test_the_lock_holds_for_every_machine() -> None:
    """The file contains no index, hash or path, and no platform build such as torch's `+cpu`."""
    assert len(LINES) > 100
    for line in LINES:
        if line.startswith("#"):
            assert "/" not in line
            continue
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( ; [a-z_]+ [^/@#]+| ; \([a-z_]+ [^/@#]+)?", line)
        (pin,) = Requirement(line).specifier
        assert Version(pin.version).local is None


def test_everything_is_installed_with_it() -> None:
    for file, installs in (("Makefile", "pip install"), ("Dockerfile", "python install")):
        text = (ROOT / file).read_text(encoding="utf-8")
        commands = [line for line in text.splitlines() if installs in line and not line.startswith("#")]
        named = [line for line in commands if "--editable" in line or "--requirement" in line]
        assert len(named) == {"Makefile": 2, "Dockerfile": 1}[file]
        assert all("--constraint" in line for line in named)


def test_python_314_is_left_out() -> None:
    """TorchScript, which serving uses, does not support Python 3.14."""
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    versions = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c}
    assert versions == {"3.11", "3.12", "3.13"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "python3.14" not in makefile
    assert "(3, 11) <= sys.version_info < (3, 14)" in makefile
