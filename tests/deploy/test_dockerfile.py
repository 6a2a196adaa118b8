"""The Dockerfile, read as text; machines with an engine build it."""

import fnmatch
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core.settings import Settings
from tests.deploy.files import ROOT, image_environment, lineage, own_services, stages

TARGETS = ("cpu", "cuda")


def copied_from_here() -> list[str]:
    return [
        copied.split()[0]
        for stage in stages().values()
        for copied in stage.of("COPY")
        if not copied.startswith("--from")
    ]


def ignored(path: str) -> bool:
    """Apply the last matching rule of .dockerignore, as an engine does for entries of the root folder."""
    decided = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!")
        if rule and rule[0] != "#" and fnmatch.fnmatch(path, pattern):
            decided = not rule.startswith("!")
    return decided


@pytest.mark.parametrize("target", TARGETS)
def test_both_targets_run_the_same_command_as_an_unprivileged_user(target: str) -> None:
    line = lineage(target)
    assert [user for stage in line for user in stage.of("USER")] == ["10001:10001"]
    assert [json.loads(entry) for stage in line for entry in stage.of("ENTRYPOINT")] == [["clipcite"]]
    assert [stage.name for stage in line] == ["runtime", target]
    assert not stages()[target].of("RUN")


def test_the_compose_file_builds_targets_that_exist() -> None:
    assert {service["build"]["target"] for service in own_services().values()} == set(TARGETS)
    for service in own_services().values():
        arguments = {rest.split("=")[0] for stage in stages().values() for rest in stage.of("ARG")}
        assert set(service["build"].get("args", {})) <= arguments


def test_copied_files_exist_and_are_not_ignored() -> None:
    sources = copied_from_here()
    assert sources == ["pyproject.toml", "constraints.txt", ".", "."]
    assert not any(map(ignored, ("pyproject.toml", "constraints.txt")))


def test_the_context_is_the_packages_and_what_describes_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {path.parent.name for path in ROOT.glob("[!.]*/__init__.py")} - {"benchmarks", "demo", "tests"}
    seen = {path.name for path in ROOT.iterdir() if not ignored(path.name)}
    described = {project["project"]["readme"], *project["project"]["license-files"]}
    assert seen == packages | {"pyproject.toml", "constraints.txt", "setup.py"} | described


def test_the_requirements_are_those_of_the_service(tmp_path: Path) -> None:
    """The step of the Dockerfile runs on the real pyproject.toml."""
    [step] = stages()["requirements"].of("RUN")
    program = json.loads(step)
    assert program[:2] == ["python", "-c"]
    code = program[2].replace("'/", f"'{tmp_path}/")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    subprocess.run([sys.executable, "-c", code], check=True)
    found = (tmp_path / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [name for extra in ("server", "starter", "heic") for name in extras[extra]]
    assert found == [*project["dependencies"], *wanted]


def test_its_variables_are_settings() -> None:
    fields = {f"CLIPCITE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in image_environment() if name.startswith("CLIPCITE_")} <= fields
