"""`clipcite backbones`, as an operator runs it, against a local hub."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from admin.serve import preparing_line
from clipcite.__main__ import app
from core.settings import Settings
from core.store import backbones as store
from core.store.db.session import Database
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub

NAME = "hf-hub:tests/tiny"


@pytest.fixture(autouse=True)
def cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache of the commands, beside a hub with one repository."""
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    monkeypatch.setenv("CLIPCITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backbones", *arguments])


@pytest.mark.slow
def test_pull_verify_and_remove(cache: Path) -> None:
    pulled = call("pull", NAME)
    assert pulled.exit_code == 0, pulled.output
    assert f"Installed {NAME}" in pulled.stdout
    assert f"clipcite backbones use {NAME}" in pulled.stdout
    rows = json.loads(call("list", "nothing*", "--json").stdout)
    assert [(row["name"], row["installed"]) for row in rows] == [("starter", True), (NAME, True)]
    assert call("verify").stdout == f"{NAME}: ok\n"
    weights = next(cache.glob("backbones/*/open_clip_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    altered = call("verify", NAME)
    assert altered.exit_code == 1
    assert "open_clip_model.safetensors has changed" in altered.stdout
    assert f"clipcite backbones pull {NAME}" in altered.stderr
    assert call("pull", NAME).exit_code == 0
    assert call("verify").stdout == f"{NAME}: ok\n"
    assert call("remove", NAME).stdout.startswith(f"Removed {NAME}, which frees 7 MB")
    again = call("remove", NAME)
    assert again.exit_code == 1
    assert f"{NAME} is not installed" in again.stderr
    assert f"`clipcite backbones pull {NAME}`" in call("verify", NAME).stderr.replace("\n", " ")
    assert call("verify").stdout == "No backbone is installed.\n"


@pytest.mark.slow
def test_weights_of_another_architecture_are_removed_again(cache: Path, tmp_path: Path) -> None:
    """The folder states no name, and its weights do not fit the given one."""
    done = call("import", str(tmp_path / "repository"), "--name", "ViT-B-32/openai")
    assert done.exit_code == 1
    assert "ViT-B-32/openai" in done.stderr
    assert not list(cache.glob("backbones/*/backbone.json"))


@pytest.mark.slow
def test_the_list_has_sizes_on_disk_and_in_memory() -> None:
    _, row = json.loads(call("list", "vit-b-32/openai", "--json").stdout)
    assert row["parameters"] == 151_277_313
    assert row["bytes"] == 4 * row["parameters"]
    assert row["serving_bytes"] < row["training_bytes"]
    shown = call("list", "vit-b-32/openai")
    assert shown.exit_code == 0
    assert "605 MB" in shown.stdout
    assert "training: memory of a training with 10 classes (estimate)." in shown.stdout
    assert "ViT-B-32/laion400m_e31" in call("list", "ViT-B-32/*").stdout
    _, unknown = json.loads(call("list", "roberta-vit-b-32/*", "--json").stdout)
    assert unknown["bytes"] is None


@pytest.mark.slow
def test_use_makes_it_the_default(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    shutil.copy(migrated, tmp_path / "data" / "clipcite.db")
    assert call("use", NAME).stdout == f"New trainings use {NAME}.\n"
    database = Database(f"sqlite:///{tmp_path / 'data' / 'clipcite.db'}")
    with database.read() as session:
        assert store.default(session, Settings()) == NAME
    refused = call("remove", NAME)
    assert refused.exit_code == 1
    assert "is the model for new trainings" in refused.stderr
    database.close()
    monkeypatch.setenv("CLIPCITE_BACKBONE", "starter")
    refused = call("use", NAME)
    assert refused.exit_code == 1
    assert "CLIPCITE_BACKBONE is starter" in refused.stderr


@pytest.mark.parametrize("command", ["pull", "use", "remove", "verify"])
def test_a_name_that_nobody_can_download(command: str) -> None:
    done = call(command, "local-dir:X")
    assert done.exit_code == 1
    assert "'local-dir:X' is a folder on the machine of the service" in done.stderr


def test_a_download_has_a_line_per_tenth() -> None:
    assert preparing_line(None) is None
    step = {"what": "Loading x", "done_bytes": None, "total_bytes": None}
    assert preparing_line(step) is None
    assert preparing_line({**step, "what": "Preparing x"}) == "Preparing x …"
    lines = [
        preparing_line({"what": "Downloading x", "done_bytes": done, "total_bytes": 600_000_000})
        for done in (0, 59_999_999, 60_000_000, 600_000_000)
    ]
    assert lines == [f"Downloading x: {share}% of 600 MB" for share in (0, 0, 10, 100)]


ISOLATED = """
import fcntl, json, socket, struct, subprocess, sys
from pathlib import Path

from PIL import Image

from clipcite import Client
from tests.service.running import serve

folder, name = Path(sys.argv[1]), sys.argv[2]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # SIOCSIFFLAGS: loopback up and running
    fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", b"lo", 0x41))
try:
    socket.create_connection(("192.0.2.1", 80), 5)
except OSError as error:
    print(error.strerror)
done = subprocess.run(
    [sys.executable, "-m", "clipcite", "backbones", "import", str(folder / "stick")], check=True
)
with serve(folder / "data", {"CLIPCITE_BACKBONE": name}) as service, Client(service.url) as client:
    result = client.classify([Image.new("RGB", (40, 40), "red")], ["red", "green"])
    print(json.dumps([result.results[0].error, len(result.results[0].predictions)]))
"""


@pytest.mark.slow
def test_a_cold_start_without_a_network(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import, start and classification run in a network namespace that has only its own loopback."""
    pulled = json.loads(call("pull", NAME, "--json").stdout)
    shutil.copytree(pulled["folder"], tmp_path / "stick")
    monkeypatch.setenv("CLIPCITE_CACHE", str(tmp_path / "other"))
    monkeypatch.delenv("HF_ENDPOINT")
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", ISOLATED, str(tmp_path), NAME],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Network is unreachable"
    assert f"Installed {NAME}" in done.stdout
    assert "[null, 2]" in lines  # the processes may write when they end
