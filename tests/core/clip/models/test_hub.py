"""Downloads from a local hub: complete, interrupted, altered and refused."""

import os
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub.constants
import pytest

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import hub as client
from tests.disk import small_disk
from tests.hub import RETRIES, Hub

REPOSITORY = "tests/tiny"
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def files(hub: Hub, tmp_path: Path) -> Path:
    """Return the folder of a repository with a small and a large file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text('{"a": 1}')
    (folder / WEIGHTS).write_bytes(os.urandom(1_000_000))
    hub.add(REPOSITORY, folder)
    return folder


def everything(names: Sequence[str]) -> Sequence[str]:
    return names


def download(folder: Path, repository: str = REPOSITORY) -> str:
    commit, _ = client.download(repository, everything, folder)
    return commit


def failure(folder: Path, repository: str = REPOSITORY) -> str:
    with pytest.raises(BackboneUnavailable) as caught:
        download(folder, repository)
    return caught.value.detail


def test_only_the_chosen_files_are_downloaded(files: Path, tmp_path: Path) -> None:
    client.download(REPOSITORY, lambda names: [n for n in names if n.endswith(".json")], tmp_path / "d")
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"open_clip_config.json", client.PLAN}


def test_a_broken_transfer_continues_where_it_stopped(hub: Hub, files: Path, tmp_path: Path) -> None:
    hub.cuts = [100_000, 200_000]
    download(tmp_path / "d")
    assert hub.transfers() == [None, "bytes=100000-", "bytes=300000-"]
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_a_later_process_continues_where_an_earlier_one_stopped(
    hub: Hub, files: Path, tmp_path: Path
) -> None:
    hub.cuts = [300_000, *RETRIES]
    assert "broke off" in failure(tmp_path / "d")
    assert client.progress(tmp_path / "d") == client.Progress(300_008, 1_000_008)
    hub.requests.clear()
    download(tmp_path / "d")
    assert hub.transfers() == ["bytes=300000-"]
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_a_file_that_changed_meanwhile_starts_again(hub: Hub, files: Path, tmp_path: Path) -> None:
    hub.cuts = [300_000, *RETRIES]
    failure(tmp_path / "d")
    (files / WEIGHTS).write_bytes(os.urandom(1_000_000))
    hub.requests.clear()
    download(tmp_path / "d")
    assert hub.transfers() == [None]
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_an_altered_file_is_discarded(hub: Hub, files: Path, tmp_path: Path) -> None:
    hub.corrupt = True
    sentence = failure(tmp_path / "d")
    assert "other content than the hub states" in sentence
    assert "HF_ENDPOINT" in sentence
    assert not (tmp_path / "d" / WEIGHTS).exists()
    hub.corrupt = False
    download(tmp_path / "d")
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


@pytest.mark.parametrize("missing", ["lists_files", "has_tree"])
def test_a_mirror_that_lists_files_in_one_way_only(
    hub: Hub, files: Path, tmp_path: Path, missing: str
) -> None:
    setattr(hub, missing, False)
    assert download(tmp_path / "d") == hub.commit(REPOSITORY)
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_a_mirror_with_etags_of_its_own(
    hub: Hub, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a SHA-256 is compared."""
    monkeypatch.setattr("tests.hub.etag", lambda path: "0" * 40)
    download(tmp_path / "d")
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository(hub: Hub, files: Path, tmp_path: Path, status: int) -> None:
    hub.gated[REPOSITORY] = status
    sentence = failure(tmp_path / "d")
    assert "its licence must be accepted first" in sentence
    assert f"{hub.url}/{REPOSITORY}" in sentence
    assert "HF_TOKEN" in sentence


def test_a_missing_repository(hub: Hub, tmp_path: Path) -> None:
    assert "has no repository tests/nothing" in failure(tmp_path / "d", "tests/nothing")


@pytest.mark.parametrize("name", ["", "a b/c", "../../etc/passwd"])
def test_a_name_that_no_repository_has(hub: Hub, name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownBackbone, match="not the name of a repository"):
        download(tmp_path / "d", name)
    assert hub.requests == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_with_problems(hub: Hub, files: Path, tmp_path: Path, status: int) -> None:
    hub.status = status
    assert f"answers with status {status}" in failure(tmp_path / "d")


def test_no_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    sentence = failure(tmp_path / "d")
    assert "can't be reached" in sentence
    assert "clipcite backbones import FOLDER" in sentence


def test_too_little_disk_space_is_noticed_before_the_download(
    hub: Hub, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SPARE_BYTES", 10**18)
    assert "The download needs" in failure(tmp_path / "d")
    assert hub.transfers() == []


@pytest.mark.mounts
@pytest.mark.slow
def test_a_full_disk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program fills the disk during the download."""
    monkeypatch.setattr(client, "SPARE_BYTES", -(10**9))
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "ballast").write_bytes(bytes(600_000))
        sentence = failure(disk / "d")
        assert "is full" in sentence
        assert "CLIPCITE_CACHE" in sentence
        (disk / "ballast").unlink()
        done = client.progress(disk / "d")
        assert done.done_bytes > 8
        download(disk / "d")
        assert (disk / "d" / WEIGHTS).read_bytes() == (files / WEIGHTS).read_bytes()


def test_the_token_reaches_the_hub_and_not_its_storage(
    hub: Hub, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(tmp_path / "d")
    assert {token for path, token in hub.tokens if "/resolve/" in path} == {"Bearer hf_secret"}
    assert {token for path, token in hub.tokens if path.startswith("/lfs/")} == {None}
