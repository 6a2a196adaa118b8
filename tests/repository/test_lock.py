"""constraints.txt: a version for every package in pyproject.toml, independent of the machine."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

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


def test_every_requirement_has_a_version_in_its_range() -> None:
    locked = pins()
    for requirement in map(Requirement, REQUIREMENTS):
        entries = locked[canonicalize_name(requirement.name)]
        assert entries, f"{requirement} has no version. Run: make lock"
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
