"""The wheel: one top-level name, and a service that ignores folders of the same names."""

import os
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import torch

from tests.docs.pages import PAGES, blocks, session
from tests.service.running import READY_SECONDS, classified, wait_for

ROOT = Path(__file__).parents[2]
FIRST_SCRIPT = """
from clipcite import Client
client = Client()
print(client.classify("photo.jpg", model="wardrobe")[0].class_name)
job = client.adapt("images").wait()
print(job.metrics.verdict, job.model_id.upper(), client.classify("photo.jpg")[0].best.probability)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of a fresh environment with the wheel. Dependencies come from this one through a
    `.pth` file.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0"):
        if name and name.split("/")[0] not in {"benchmarks", "tests", "docs"} and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(source)], check=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, str(wheel)], check=True)
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return folder / "venv" / "bin"


def without_paths() -> dict[str, str]:
    """Return the environment without paths to other modules, such as this checkout."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONSAFEPATH"}}


def run(installed: Path, *command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(installed / command[0]), *command[1:]],
        cwd=cwd,
        env=without_paths(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_wheel_installs_one_name(installed: Path, tmp_path: Path) -> None:
    [top_level] = installed.parent.glob("lib/*/site-packages/clipcite-*.dist-info/top_level.txt")
    assert top_level.read_text().split() == ["clipcite"]
    assert run(installed, "python", "-c", "import clipcite", cwd=tmp_path).returncode == 0
    done = run(installed, "python", "-c", "import core", cwd=tmp_path)
    assert "No module named 'core'" in done.stderr


def test_every_file_travels(installed: Path) -> None:
    """Modules, templates, styles and the web page. Types of the page are for its checks alone."""
    [site] = installed.parent.glob("lib/*/site-packages")
    places = dict.fromkeys(("admin", "api", "core", "migrations", "worker"), site / "clipcite" / "_server")
    places["clipcite"] = site
    tracked = subprocess.run(
        ["git", "ls-files", *places], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [n for n in tracked.stdout.split() if (ROOT / n).is_file() and not n.endswith((".mako", ".d.ts"))]
    assert "api/jobs/report/report.html.j2" in files
    assert [name for name in files if not (places[name.split("/")[0]] / name).is_file()] == []


def test_the_server_is_importable_by_its_path(installed: Path, tmp_path: Path) -> None:
    path = run(installed, "clipcite", "server-path", cwd=tmp_path).stdout.strip()
    assert path.endswith("site-packages/clipcite/_server")
    done = subprocess.run(
        [str(installed / "python"), "-c", "import core.clip.config, api, worker, migrations"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_the_programs_of_the_pages_have_types(installed: Path, tmp_path: Path) -> None:
    """mypy finds the types of the installed client, and no error in a program that uses it."""
    programs = [block.text for page in PAGES for block in blocks(page) if block.language == "python"]
    programs += [path.read_text() for path in (ROOT / "examples").glob("*.py")] + [FIRST_SCRIPT]
    programs = [program for program in programs if "from clipcite import" in program]
    assert len(programs) >= 9
    for number, program in enumerate(programs):
        (tmp_path / f"program{number}.py").write_text(program)
    options = ["--strict", "--config-file=", "--disable-error-code=import-untyped", "--python-executable"]
    names = [path.name for path in tmp_path.glob("*.py")]
    command = [sys.executable, "-m", "mypy", *options, str(installed / "python"), *names]
    done = subprocess.run(command, cwd=tmp_path, env=without_paths(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@contextmanager
def serving(program: Path, folder: Path, settings: dict[str, str]) -> Iterator[str]:
    """Run `clipcite serve` in a folder, with its data below. Yield what it prints after `Ready: `."""
    process = subprocess.Popen(
        [str(program), "serve", "--port", "0", "--data", str(folder / "data")],
        cwd=folder,
        env={**without_paths(), "COLUMNS": "200", **settings},
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    assert process.stderr is not None
    threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
    try:
        found = wait_for(
            lambda: re.search(r"Ready: (http://[^/\s]+)", "".join(said)),
            seconds=READY_SECONDS,
            unless=lambda: process.poll() is not None,
            explain=lambda: "".join(said),
        )
        yield found.group(1)
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
def test_the_service_runs_beside_folders_of_the_same_names(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("api", "core", "worker", "migrations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    with serving(installed / "clipcite", tmp_path, environment) as url:
        with httpx.Client(base_url=url, timeout=600) as http:
            classified(http, "red", "green")
        assert httpx.get(f"{url}/page/app.js", timeout=600).status_code == 200


@pytest.mark.slow
def test_the_wheel_alone_runs_the_session_of_the_readme(installed: Path, tmp_path: Path) -> None:
    """The dependencies come from pip's index, except torch, which takes gigabytes and is linked."""
    [wheel] = installed.parents[1].glob("*.whl")
    venv.create(tmp_path / ".venv", with_pip=False)
    programs = tmp_path / ".venv" / "bin"
    [site] = (tmp_path / ".venv" / "lib").glob("python*/site-packages")
    for distribution in metadata.distributions():
        if re.match("torch$|torchvision$|triton$|nvidia", distribution.name):
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    install = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    wanted = ["--constraint", str(ROOT / "constraints.txt"), f"{wheel}[server,starter,heic]"]
    subprocess.run([*install, *wanted], cwd=tmp_path, env=without_paths(), check=True)
    settings = {"CLIPCITE_CACHE": str(tmp_path / "cache"), "CLIPCITE_REQUIRE_TOKEN": "true"}
    with serving(programs / "clipcite", tmp_path, settings) as url:
        script = session(ROOT / "README.md").replace("http://127.0.0.1:8000", url)
        command = ["bash", "-euo", "pipefail", "-c", script]
        reader = {**without_paths(), "CLIPCITE_DATA": str(tmp_path / "data")}
        done = subprocess.run(command, cwd=tmp_path, env=reader, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    *_, tally = done.stdout.splitlines()
    assert "screw" in tally, done.stdout
