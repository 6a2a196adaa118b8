"""Downloads from a local hub: complete, interrupted, altered and refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub.constants
import pytest

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import backbones, download
from core.clip.models.backbones import TOTAL
from core.clip.models.open_clip_layout import CONFIG, WEIGHTS
from tests.core.clip.tiny import make_tiny_backbone
from tests.disk import small_disk
from tests.hub import RETRIES, Hub

REPOSITORY = "tests/tiny"
NAME = f"hf-hub:{REPOSITORY}"


@pytest.fixture
def files(hub: Hub, tmp_path: Path) -> Path:
    """Return the folder of a repository with a small and a large file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / CONFIG).write_text('{"a": 1}')
    (folder / WEIGHTS).write_bytes(os.urandom(1_000_000))
    hub.add(REPOSITORY, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for a download."""
    (tmp_path / "d").mkdir()
    return tmp_path / "d"


def everything(names: Iterable[str]) -> list[str]:
    return sorted(names)


def failure(folder: Path, repository: str = REPOSITORY) -> str:
    with pytest.raises(BackboneUnavailable) as caught:
        download.fetch(repository, everything, folder)
    return caught.value.detail


def test_only_the_chosen_files_are_downloaded(hub: Hub, files: Path, folder: Path) -> None:
    assert download.fetch(REPOSITORY, {CONFIG}.intersection, folder) == hub.commit(REPOSITORY)
    assert {path.name for path in folder.iterdir()} == {CONFIG, TOTAL}
    assert (folder / TOTAL).read_text() == "8"


def test_a_broken_transfer_continues_where_it_stopped(hub: Hub, files: Path, folder: Path) -> None:
    hub.cuts = [100_000, 200_000]
    hub.lists_files = False  # as a mirror may do
    download.fetch(REPOSITORY, everything, folder)
    assert hub.transfers() == [None, "bytes=100000-", "bytes=300000-"]
    assert (folder / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_a_connection_that_stays_broken(hub: Hub, files: Path, folder: Path) -> None:
    hub.cuts = [300_000, *RETRIES]
    assert "the connection broke off" in failure(folder)


def test_an_altered_file_is_refused(hub: Hub, files: Path, folder: Path) -> None:
    hub.corrupt = True
    sentence = failure(folder)
    assert f"{WEIGHTS} of {REPOSITORY} does not match the hub's checksum" in sentence
    assert "HF_ENDPOINT" in sentence


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository(hub: Hub, files: Path, folder: Path, status: int) -> None:
    hub.gated[REPOSITORY] = status
    sentence = failure(folder)
    assert "its licence must be accepted first" in sentence
    assert f"{hub.url}/{REPOSITORY}" in sentence
    assert "HF_TOKEN" in sentence


@pytest.mark.parametrize("sha", ["{path}", "main", "", "A" * 40, "0" * 39])
def test_a_hub_that_names_no_commit_writes_nothing(
    hub: Hub, files: Path, folder: Path, tmp_path: Path, sha: str
) -> None:
    """The library writes to a file whose path ends with the name of the commit."""
    mine = tmp_path / "bashrc"
    mine.write_text("mine")
    hub.sha = sha.replace("{path}", str(mine))
    sentence = failure(folder)
    assert mine.read_text() == "mine"
    assert "no valid commit" in sentence
    assert "HF_ENDPOINT" in sentence


def test_a_missing_repository(hub: Hub, folder: Path) -> None:
    assert "has no repository tests/nothing" in failure(folder, "tests/nothing")


@pytest.mark.parametrize("name", ["", "a b/c", "../../etc/passwd"])
def test_a_name_that_no_repository_has(hub: Hub, name: str, folder: Path) -> None:
    with pytest.raises(UnknownBackbone, match="not the name of a repository"):
        download.fetch(name, everything, folder)
    assert hub.requests == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_with_problems(hub: Hub, files: Path, folder: Path, status: int) -> None:
    hub.status = status
    assert f"responds with status {status}" in failure(folder)


def test_no_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    sentence = failure(folder)
    assert "can't be reached" in sentence
    assert "clipcite backbones import FOLDER" in sentence


def test_offline_mode(hub: Hub, files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failure(folder)
    assert hub.requests == []


def test_a_repository_without_the_needed_files(files: Path, folder: Path) -> None:
    with pytest.raises(BackboneUnavailable, match="none of the needed files"):
        download.fetch(REPOSITORY, {"config.json"}.intersection, folder)


def test_a_deeply_nested_configuration(hub: Hub, tmp_path: Path, folder: Path) -> None:
    make_tiny_backbone(tmp_path / "repository")
    hub.add(REPOSITORY, tmp_path / "repository")
    (tmp_path / "repository" / CONFIG).write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(BackboneUnavailable, match="is not a configuration of open_clip"):
        download.download(NAME, folder)


def test_a_disk_with_too_little_space(
    hub: Hub, files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5% of the disk stay free, and at least 2 GB."""

    def disk(total: int, free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(total, 0, free))

    for total, free in ((10**12, 50_001_000_007), (30 * 10**9, 2_001_000_007)):
        disk(total, free)
        assert "lacks 0.0 GB for the download, which leaves 5% of the disk and at least 2 GB" in failure(
            folder
        )
    assert hub.transfers() == []
    disk(10**12, 50_001_000_008)
    download.fetch(REPOSITORY, everything, folder)


FILLING = """
import shutil, sys
from core.clip.models import download

def usage(path):
    arrived = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return shutil._ntuple_diskusage(30 * 10**9, 0, 10**9 if arrived > 2_000_000 else 10**10)

shutil.disk_usage = usage
download.main()
"""


@pytest.mark.slow
def test_a_download_stops_when_the_disk_gets_full(hub: Hub, tmp_path: Path) -> None:
    """Another program takes the space. What has arrived is deleted."""
    make_tiny_backbone(tmp_path / "repository")
    hub.add(REPOSITORY, tmp_path / "repository")
    hub.delay_seconds = 0.1
    process = subprocess.Popen(
        [sys.executable, "-c", FILLING, NAME, str(tmp_path / "cache"), ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(BackboneUnavailable, match=r"lacks 1\.0 GB for the download"):
        backbones.finish(process)
    assert [path.name for path in (tmp_path / "cache" / "backbones").iterdir() if path.is_dir()] == []


@pytest.mark.mounts
@pytest.mark.slow
def test_a_full_disk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "spare_bytes", lambda folder: 10**12)
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "ballast").write_bytes(bytes(600_000))
        (disk / "d").mkdir()
        sentence = failure(disk / "d")
        assert "is full" in sentence
        assert "CLIPCITE_CACHE" in sentence


def test_the_token_reaches_the_hub_and_not_its_storage(
    hub: Hub, files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download.fetch(REPOSITORY, everything, folder)
    assert {token for path, token in hub.tokens if "/resolve/" in path} == {"Bearer hf_secret"}
    assert {token for path, token in hub.tokens if path.startswith("/lfs/")} == {None}
